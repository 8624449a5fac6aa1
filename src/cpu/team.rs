//! Threads that hold a model together.
//!
//! The [`Leader`] is what an engine has: it tells its followers what to do by [`Order`], and does it
//! itself. Each thread has a [`CpuDevice`] with its share of the plan; they meet in the
//! [`Exchange`], where each shows what the others need. How orders and numbers travel is the
//! surroundings' affair: threads of a process ([`threads`](super::threads)), or workers in a browser.

use std::{
    cell::RefCell,
    collections::HashMap,
    ops::{Add, Range},
    rc::Rc,
};

use super::{
    CpuDevice, ParkedCache,
    program::{Program, Share},
};
use crate::{
    engine::{MemoryUse, Outputs},
    error::{Error, ErrorKind, Result},
    ops::{CacheShape, Plan},
    source::LocalFuture,
    weights::{Section, Sink, WeightId},
};

/// A thread's place among those that hold a model together.
pub trait Exchange {
    /// The number of this thread; the leader's is 0.
    fn rank(&self) -> usize;

    /// Number of threads.
    fn size(&self) -> usize;

    /// Shows `values` to the other threads, and waits until all have shown theirs.
    ///
    /// # Errors
    /// `device_lost` when another thread has ended.
    fn show(&mut self, values: &[f32]) -> Result<()>;

    /// Copies the first numbers of what thread `rank` has shown last.
    fn read(&self, rank: usize, out: &mut [f32]);
}

/// The leader's way to its followers. Dropping it ends them.
pub trait Followers {
    /// Has thread `rank` carry out an order, after those before.
    ///
    /// # Errors
    /// `device_lost` when that thread has ended.
    fn tell(&mut self, rank: usize, order: &Order<'_>) -> Result<()>;
}

/// What starts threads.
pub trait Recruiter: std::fmt::Debug {
    /// Number of threads that a model may have.
    fn n_threads(&self) -> usize;

    /// Starts a [`Follower`] for each of `programs`, of threads 1 and on, which may show `most_shown` numbers
    /// at once.
    ///
    /// # Errors
    /// Those of [`CpuDevice::with`], and `unsupported` when there are no threads to be had.
    fn recruit(
        &self,
        programs: Vec<Program>,
        context_length: usize,
        most_shown: usize,
    ) -> LocalFuture<'_, Result<Recruits>>;
}

/// Threads that have started.
pub struct Recruits {
    /// The way to them.
    pub followers: Box<dyn Followers>,
    /// The leader's place among them.
    pub exchange: Box<dyn Exchange>,
}

/// What a follower is told to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order<'a> {
    /// To take rows of a weight.
    Write {
        /// The weight.
        id: WeightId,
        /// Which of its segments.
        segment: usize,
        /// Which section of it.
        section: Section,
        /// Rows of the segment.
        rows: Range<usize>,
        /// The section's bytes of these rows.
        bytes: &'a [u8],
    },
    /// To compute the layers for tokens from a position on.
    Extend {
        /// The tokens.
        tokens: Vec<u32>,
        /// The position of the first.
        position: usize,
        /// Of which of them to the end.
        outputs: Outputs,
    },
    /// To compute the logits of some tokens of the last chunk.
    Logits {
        /// Which.
        rows: Range<usize>,
    },
    /// To set a copy of the caches aside, and to show the bytes that it takes, or -1 where there is no memory.
    Park {
        /// A number for it.
        key: u32,
        /// Positions to copy.
        n_positions: usize,
    },
    /// To put back what was set aside.
    Unpark {
        /// Its number.
        key: u32,
    },
    /// To free what was set aside.
    Forget {
        /// Its number.
        key: u32,
    },
}

/// By their numbers in an order.
const OUTPUTS: [Outputs; 3] = [Outputs::None, Outputs::Last, Outputs::All];

impl<'a> Order<'a> {
    /// The order as numbers and bytes, for threads that share no memory.
    pub fn encode(&self) -> (Vec<u32>, &'a [u8]) {
        let words = match self {
            Self::Write { id, segment, section, rows, .. } => {
                let section = u32::from(*section == Section::Scales);
                vec![0, id.0 as u32, *segment as u32, section, rows.start as u32, rows.end as u32]
            }
            Self::Extend { tokens, position, outputs } => {
                let head = [1, *position as u32, *outputs as u32];
                head.into_iter().chain(tokens.iter().copied()).collect()
            }
            Self::Logits { rows } => vec![2, rows.start as u32, rows.end as u32],
            Self::Park { key, n_positions } => vec![3, *key, *n_positions as u32],
            Self::Unpark { key } => vec![4, *key],
            Self::Forget { key } => vec![5, *key],
        };
        let bytes = match self {
            Self::Write { bytes, .. } => bytes,
            _ => &[][..],
        };
        (words, bytes)
    }

    /// The order that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// `invalid_argument` when it did not.
    pub fn decode(words: &[u32], bytes: &'a [u8]) -> Result<Self> {
        Ok(match *words {
            [0, id, segment, section, start, end] => Self::Write {
                id: WeightId(id as usize),
                segment: segment as usize,
                section: if section == 0 { Section::Quants } else { Section::Scales },
                rows: start as usize..end as usize,
                bytes,
            },
            [1, position, outputs, ref tokens @ ..] if (outputs as usize) < OUTPUTS.len() => {
                Self::Extend {
                    tokens: tokens.to_vec(),
                    position: position as usize,
                    outputs: OUTPUTS[outputs as usize],
                }
            }
            [2, start, end] => Self::Logits { rows: start as usize..end as usize },
            [3, key, n_positions] => Self::Park { key, n_positions: n_positions as usize },
            [4, key] => Self::Unpark { key },
            [5, key] => Self::Forget { key },
            _ => return Err(Error::argument("no such order")),
        })
    }
}

/// A thread that does what it is told.
pub struct Follower {
    device: CpuDevice,
    /// Caches that are set aside, by their numbers.
    parked: HashMap<u32, Vec<ParkedCache>>,
}

impl Follower {
    /// A thread with its share of a plan.
    ///
    /// # Errors
    /// As [`CpuDevice::with`].
    pub fn new(
        program: Program,
        context_length: usize,
        exchange: Box<dyn Exchange>,
    ) -> Result<Self> {
        let device = CpuDevice::with(program, context_length, Some(exchange))?;
        Ok(Self { device, parked: HashMap::new() })
    }

    /// Carries out an order.
    ///
    /// # Errors
    /// `device_lost` when another thread has ended.
    pub fn obey(&mut self, order: Order<'_>) -> Result<()> {
        match order {
            Order::Write { id, segment, section, rows, bytes } => {
                return self.device.write(id, segment, section, rows, bytes);
            }
            Order::Extend { tokens, position, outputs } => {
                return self.device.extend(&tokens, position, outputs);
            }
            Order::Logits { rows } => return self.device.logits(rows).map(drop),
            Order::Park { key, n_positions } => {
                let parked = self.device.park(n_positions);
                let bytes = parked.as_deref().map_or(-1.0, |parked| bytes(parked) as f32);
                self.parked.extend(parked.map(|parked| (key, parked)));
                return self.device.show(&[bytes]).map(drop);
            }
            Order::Unpark { key } => {
                if let Some(parked) = self.parked.get(&key) {
                    self.device.unpark(parked);
                }
            }
            Order::Forget { key } => drop(self.parked.remove(&key)),
        }
        Ok(())
    }
}

fn bytes(parked: &[ParkedCache]) -> u64 {
    parked.iter().map(ParkedCache::bytes).sum()
}

/// A model on one thread or several, of which this is the first.
pub struct Leader {
    device: CpuDevice,
    team: Option<Team>,
}

/// What the leader knows of its followers.
struct Team {
    followers: Box<dyn Followers>,
    /// Rows that each thread holds, the leader's first.
    shares: Vec<Share>,
    /// Rows of each segment of each weight.
    segments: Vec<Vec<Range<usize>>>,
    /// Bytes that followers hold.
    held: MemoryUse,
    next_key: u32,
    /// Numbers of caches set aside that nobody has a use for any more.
    forgotten: Forgotten,
}

type Forgotten = Rc<RefCell<Vec<u32>>>;

/// Keys and values that are set aside, with each thread its own.
pub struct ParkedCaches {
    own: Vec<ParkedCache>,
    others: Option<OthersCaches>,
}

/// What followers have set aside; they are told when it is dropped.
struct OthersCaches {
    key: u32,
    bytes: u64,
    forgotten: Forgotten,
}

impl Drop for OthersCaches {
    fn drop(&mut self) {
        self.forgotten.borrow_mut().push(self.key);
    }
}

impl ParkedCaches {
    /// Memory in use.
    pub fn bytes(&self) -> u64 {
        bytes(&self.own) + self.others.as_ref().map_or(0, |others| others.bytes)
    }
}

impl Team {
    fn tell(&mut self, order: &Order<'_>) -> Result<()> {
        for key in self.forgotten.take() {
            self.tell_all(&Order::Forget { key })?;
        }
        self.tell_all(order)
    }

    fn tell_all(&mut self, order: &Order<'_>) -> Result<()> {
        (1..self.shares.len()).try_for_each(|rank| self.followers.tell(rank, order))
    }
}

impl Leader {
    /// A model on this thread alone.
    pub fn alone(device: CpuDevice) -> Self {
        Self { device, team: None }
    }

    /// A model on as many threads as `recruiter` has and `plan` has work for, at least two.
    ///
    /// # Errors
    /// Those of [`CpuDevice::with`] and [`Recruiter::recruit`].
    pub async fn of_team(
        plan: &Plan,
        context_length: usize,
        recruiter: &dyn Recruiter,
    ) -> Result<Self> {
        let size = recruiter.n_threads().min(Program::most_threads(plan));
        if size < 2 {
            return Err(Error::unsupported("one thread is no team"));
        }
        let (mut programs, shares): (Vec<_>, Vec<_>) =
            (0..size).map(|rank| Program::share(plan, rank, size)).unzip();
        let most_shown = programs.iter().map(Program::most_shown).max().unwrap_or(0);
        let others = programs.split_off(1);
        let held = others
            .iter()
            .map(|program| CpuDevice::needed(program, context_length))
            .fold(MemoryUse::default(), Add::add);
        let recruits = recruiter.recruit(others, context_length, most_shown).await?;
        let device = CpuDevice::with(programs.remove(0), context_length, Some(recruits.exchange))?;
        let segments = plan
            .weights
            .weights
            .iter()
            .map(|weight| weight.segments.iter().map(|segment| segment.rows.clone()).collect());
        let team = Team {
            followers: recruits.followers,
            shares,
            segments: segments.collect(),
            held,
            next_key: 0,
            forgotten: Forgotten::default(),
        };
        Ok(Self { device, team: Some(team) })
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.team.as_ref().map_or(1, |team| team.shares.len())
    }

    /// Bytes held by all threads, but for what products keep.
    pub fn memory(&self) -> MemoryUse {
        let others = self.team.as_ref().map_or(MemoryUse::default(), |team| team.held);
        self.device.memory() + others
    }

    /// The key/value caches of the plan, each as far as this thread holds it.
    pub fn caches(&self) -> &[CacheShape] {
        self.device.caches()
    }

    /// Number of tokens in the last chunk that have outputs.
    pub fn n_tokens(&self) -> usize {
        self.device.n_tokens()
    }

    /// As [`CpuDevice::extend`].
    ///
    /// # Errors
    /// `device_lost` when another thread has ended.
    pub fn extend(&mut self, tokens: &[u32], position: usize, outputs: Outputs) -> Result<()> {
        self.tell(|| Order::Extend { tokens: tokens.to_vec(), position, outputs })?;
        self.device.extend(tokens, position, outputs)
    }

    /// As [`CpuDevice::hidden_states`].
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn hidden_states(&mut self, tokens: &[u32], position: usize) -> Result<Vec<f32>> {
        let outputs = Outputs::All;
        self.tell(|| Order::Extend { tokens: tokens.to_vec(), position, outputs })?;
        self.device.hidden_states(tokens, position)
    }

    /// As [`CpuDevice::logits`].
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn logits(&mut self, rows: Range<usize>) -> Result<&mut [f32]> {
        self.tell(|| Order::Logits { rows: rows.clone() })?;
        self.device.logits(rows)
    }

    /// Copies of the first `n_positions` of all caches; `None` where there is no memory for them.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn park(&mut self, n_positions: usize) -> Result<Option<ParkedCaches>> {
        let Some(team) = &mut self.team else {
            let own = self.device.park(n_positions);
            return Ok(own.map(|own| ParkedCaches { own, others: None }));
        };
        let key = team.next_key;
        team.next_key = key.wrapping_add(1);
        team.tell(&Order::Park { key, n_positions })?;
        let own = self.device.park(n_positions);
        let shown = self.device.show(&[0.0])?;
        let has_all = own.is_some() && shown.iter().all(|bytes| *bytes >= 0.0);
        let bytes = shown.iter().sum::<f32>() as u64;
        let others = OthersCaches { key, bytes, forgotten: team.forgotten.clone() };
        Ok(own.filter(|_| has_all).map(|own| ParkedCaches { own, others: Some(others) }))
    }

    /// Puts back what was parked.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn unpark(&mut self, parked: &ParkedCaches) -> Result<()> {
        if let Some(OthersCaches { key, .. }) = parked.others {
            self.tell(|| Order::Unpark { key })?;
        }
        self.device.unpark(&parked.own);
        Ok(())
    }

    fn tell<'a>(&mut self, order: impl FnOnce() -> Order<'a>) -> Result<()> {
        self.team.as_mut().map_or(Ok(()), |team| team.tell(&order()))
    }
}

impl Sink for Leader {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        let Some(Team { followers, shares, segments, .. }) = &mut self.team else {
            return self.device.write(id, segment, section, rows, bytes);
        };
        let segment_rows = &segments[id.0][segment];
        let row_bytes = bytes.len() / rows.len().max(1);
        for (rank, share) in shares.iter().enumerate() {
            for taken in share.taken(id, segment_rows.clone(), rows.clone()) {
                let bytes = &bytes[taken.source.start * row_bytes..taken.source.end * row_bytes];
                match rank {
                    0 => self.device.write(id, segment, section, taken.rows, bytes)?,
                    _ => {
                        let rows = taken.rows;
                        let order = Order::Write { id, segment, section, rows, bytes };
                        followers.tell(rank, &order)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The leader cannot go on without the others.
pub fn thread_lost() -> Error {
    Error::new(ErrorKind::DeviceLost, "a thread of the model has ended; load the model again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_travel_as_numbers_and_bytes() {
        let orders = [
            Order::Write {
                id: WeightId(3),
                segment: 1,
                section: Section::Scales,
                rows: 4..9,
                bytes: &[1, 2, 3],
            },
            Order::Extend { tokens: vec![5, 6], position: 7, outputs: Outputs::All },
            Order::Extend { tokens: vec![5], position: 7, outputs: Outputs::Last },
            Order::Extend { tokens: vec![], position: 0, outputs: Outputs::None },
            Order::Logits { rows: 1..3 },
            Order::Park { key: 8, n_positions: 100 },
            Order::Unpark { key: 8 },
            Order::Forget { key: 8 },
        ];
        for order in orders {
            let (words, bytes) = order.encode();
            assert_eq!(Order::decode(&words, bytes).unwrap(), order);
        }
        for words in [&[][..], &[0, 1], &[1, 0], &[1, 0, 3, 5], &[2], &[9, 9]] {
            assert!(Order::decode(words, &[]).is_err(), "{words:?}");
        }
    }
}
