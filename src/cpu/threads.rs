//! A team of threads in one process.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    program::Program,
    team::{Exchange, Follower, Followers, Order, Recruiter, Recruits, thread_lost},
};
use crate::{
    error::{Error, Result},
    source::LocalFuture,
};

/// Threads of this process.
#[derive(Clone, Copy, Debug)]
pub struct Threads(usize);

impl Threads {
    /// So many threads for a model, the caller's among them.
    pub const fn new(n_threads: usize) -> Self {
        Self(n_threads)
    }

    /// As many threads as this machine runs at once.
    pub fn of_machine() -> Self {
        Self(thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Recruiter for Threads {
    fn n_threads(&self) -> usize {
        self.0
    }

    fn recruit(
        &self,
        programs: Vec<Program>,
        context_length: usize,
        most_shown: usize,
    ) -> LocalFuture<'_, Result<Recruits>> {
        let recruits = recruit(programs, context_length, most_shown);
        Box::pin(async { recruits })
    }
}

fn recruit(programs: Vec<Program>, context_length: usize, most_shown: usize) -> Result<Recruits> {
    let size = programs.len() + 1;
    let board = Arc::new(Board {
        places: (0..size).map(|_| Place::new(most_shown)).collect(),
        is_over: AtomicBool::new(false),
        n_asleep: Mutex::new(0),
        shown: Condvar::new(),
    });
    let place = |rank| Box::new(AtBoard { board: board.clone(), rank, turn: 0 });
    let mut crew = Crew { board: board.clone(), followers: Vec::new() };
    for (program, rank) in programs.into_iter().zip(1..) {
        let (orders, received) = channel();
        let (ready, is_ready) = channel();
        let exchange = place(rank);
        let guard = EndOfThread(board.clone());
        let thread = thread::Builder::new()
            .name(format!("pesi-{rank}"))
            .spawn(move || follow(program, context_length, exchange, &ready, &received, guard))
            .map_err(|error| Error::unsupported(format!("threads: {error}")))?;
        crew.followers.push(Running { orders: Some(orders), thread: Some(thread) });
        is_ready.recv().map_err(|_| thread_lost())??;
    }
    Ok(Recruits { followers: Box::new(crew), exchange: place(0) })
}

/// An order on its way.
type Sent = (Vec<u32>, Vec<u8>);

fn follow(
    program: Program,
    context_length: usize,
    exchange: Box<AtBoard>,
    ready: &Sender<Result<()>>,
    orders: &Receiver<Sent>,
    _guard: EndOfThread,
) {
    // Who asked may be gone, which the channel of orders tells as well.
    let mut follower = match Follower::new(program, context_length, exchange) {
        Ok(follower) => follower,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    while let Ok((words, bytes)) = orders.recv() {
        let obeyed = Order::decode(&words, &bytes).and_then(|order| follower.obey(order));
        if obeyed.is_err() {
            return;
        }
    }
}

/// Tells the others when a thread ends, however it does.
struct EndOfThread(Arc<Board>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// The threads that follow, and the way to each.
struct Crew {
    board: Arc<Board>,
    followers: Vec<Running>,
}

/// A thread that follows; both are taken out when it ends.
struct Running {
    orders: Option<Sender<Sent>>,
    thread: Option<JoinHandle<()>>,
}

impl Followers for Crew {
    fn tell(&mut self, rank: usize, order: &Order<'_>) -> Result<()> {
        let (words, bytes) = order.encode();
        let orders = self.followers[rank - 1].orders.as_ref().ok_or_else(thread_lost)?;
        orders.send((words, bytes.to_vec())).map_err(|_| thread_lost())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.board.is_over.store(true, Ordering::Release);
        for Running { orders, thread } in &mut self.followers {
            drop(orders.take());
            if let Some(thread) = thread.take() {
                // One that has panicked has said so itself.
                let _ = thread.join();
            }
        }
    }
}

/// Where threads show numbers to each other.
struct Board {
    places: Vec<Place>,
    /// Set when a thread has ended.
    is_over: AtomicBool,
    /// Threads that sleep until another has shown something.
    n_asleep: Mutex<usize>,
    shown: Condvar,
}

impl Board {
    /// Wakes threads that sleep.
    fn wake(&self) {
        if *self.n_asleep.lock().unwrap_or_else(PoisonError::into_inner) > 0 {
            self.shown.notify_all();
        }
    }
}

/// What one thread shows. It writes the two pages in turn: by the time it comes back to one, all have
/// shown theirs of the turn between, and so have read this.
struct Place {
    /// How often it has shown something.
    turn: AtomicU32,
    /// Bits of numbers.
    pages: [Vec<AtomicU32>; 2],
}

impl Place {
    fn new(most_shown: usize) -> Self {
        let page = || (0..most_shown).map(|_| AtomicU32::new(0)).collect();
        Self { turn: AtomicU32::new(0), pages: [page(), page()] }
    }
}

/// A thread's place at the board.
struct AtBoard {
    board: Arc<Board>,
    rank: usize,
    turn: u32,
}

/// Looks at another thread's turn before this one sleeps: a few dozen microseconds.
const LOOKS: u32 = 1_000;

/// How long it sleeps at most before it looks again.
const NAP: Duration = Duration::from_millis(1);

impl AtBoard {
    /// Whether thread `rank` has shown what belongs to this turn; others are at most a turn ahead.
    fn has_shown(&self, rank: usize) -> bool {
        let turn = self.board.places[rank].turn.load(Ordering::Acquire);
        matches!(turn.wrapping_sub(self.turn), 0 | 1)
    }

    fn wait(&self, rank: usize) -> Result<()> {
        for _ in 0..LOOKS {
            if self.has_shown(rank) {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let Board { is_over, n_asleep, shown, .. } = &*self.board;
        // Whoever panicked holding the count has not changed it.
        let mut count = n_asleep.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        while !self.has_shown(rank) && !is_over.load(Ordering::Acquire) {
            count = match shown.wait_timeout(count, NAP) {
                Ok((count, _)) => count,
                Err(error) => error.into_inner().0,
            };
        }
        *count -= 1;
        if self.has_shown(rank) { Ok(()) } else { Err(thread_lost()) }
    }
}

impl Exchange for AtBoard {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.board.places.len()
    }

    fn show(&mut self, values: &[f32]) -> Result<()> {
        self.turn = self.turn.wrapping_add(1);
        let own = &self.board.places[self.rank];
        let page = &own.pages[self.turn as usize % 2][..values.len()];
        for (shown, value) in page.iter().zip(values) {
            shown.store(value.to_bits(), Ordering::Relaxed);
        }
        own.turn.store(self.turn, Ordering::Release);
        self.board.wake();
        (0..self.size()).try_for_each(|rank| self.wait(rank))
    }

    fn read(&self, rank: usize, out: &mut [f32]) {
        let page = &self.board.places[rank].pages[self.turn as usize % 2];
        for (out, shown) in out.iter_mut().zip(page) {
            *out = f32::from_bits(shown.load(Ordering::Relaxed));
        }
    }
}
