//! Workers that hold a model together with the one that owns it: the bindings to `www/src/team.ts` and
//! `www/src/thread.ts`.

use js_sys::Array;
use wasm_bindgen::prelude::*;

use super::{
    error::{from_thrown, to_js},
    options::{from_js, to_plain_js},
};
use crate::{
    cpu::{
        Program,
        team::{Exchange, Follower, Followers, Order, Recruiter, Recruits, thread_lost},
    },
    error::{ErrorKind, Result},
    source::LocalFuture,
};

#[wasm_bindgen]
extern "C" {
    /// The workers beside this one.
    #[derive(Clone, Debug)]
    pub type Team;

    #[wasm_bindgen(method, getter)]
    fn size(this: &Team) -> usize;

    #[wasm_bindgen(method, catch)]
    async fn start(
        this: &Team,
        module: JsValue,
        programs: Array,
        context_length: usize,
        most_shown: usize,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method)]
    fn tell(this: &Team, rank: usize, words: &[u32], bytes: &[u8]);

    #[wasm_bindgen(method)]
    fn close(this: &Team);

    /// A worker's place in the memory that all share.
    pub type Board;

    #[wasm_bindgen(method, getter)]
    fn rank(this: &Board) -> usize;

    #[wasm_bindgen(method, getter)]
    fn size(this: &Board) -> usize;

    #[wasm_bindgen(method)]
    fn show(this: &Board, values: &[f32]) -> bool;

    #[wasm_bindgen(method)]
    fn read(this: &Board, rank: usize, out: &mut [f32]);
}

impl Recruiter for Team {
    fn n_threads(&self) -> usize {
        self.size()
    }

    fn recruit(
        &self,
        programs: Vec<Program>,
        context_length: usize,
        most_shown: usize,
    ) -> LocalFuture<'_, Result<Recruits>> {
        Box::pin(async move {
            let programs = programs.iter().map(to_plain_js).collect::<Result<Array>>()?;
            let followers = Box::new(Workers(self.clone()));
            let started =
                self.start(wasm_bindgen::module(), programs, context_length, most_shown).await;
            let failed = |thrown| from_thrown(ErrorKind::Unsupported, "threads", &thrown);
            let board: Board = started.map_err(failed)?.unchecked_into();
            Ok(Recruits { followers, exchange: Box::new(board) })
        })
    }
}

/// Workers that are at work for a model.
struct Workers(Team);

impl Followers for Workers {
    fn tell(&mut self, rank: usize, order: &Order<'_>) -> Result<()> {
        let (words, bytes) = order.encode();
        self.0.tell(rank, &words, bytes);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Exchange for Board {
    fn rank(&self) -> usize {
        self.rank()
    }

    fn size(&self) -> usize {
        self.size()
    }

    fn show(&mut self, values: &[f32]) -> Result<()> {
        if Board::show(self, values) { Ok(()) } else { Err(thread_lost()) }
    }

    fn read(&self, rank: usize, out: &mut [f32]) {
        self.read(rank, out);
    }
}

/// What a worker beside the one that owns a model holds of it.
#[wasm_bindgen(js_name = Follower)]
pub struct WorkerFollower(Follower);

#[wasm_bindgen(js_class = Follower)]
impl WorkerFollower {
    /// Allocates its share.
    #[wasm_bindgen(constructor)]
    pub fn new(
        program: JsValue,
        context_length: usize,
        board: Board,
    ) -> Result<WorkerFollower, JsValue> {
        let program = from_js(program).map_err(to_js)?;
        Follower::new(program, context_length, Box::new(board)).map(Self).map_err(to_js)
    }

    /// Carries out an order.
    pub fn obey(&mut self, words: &[u32], bytes: &[u8]) -> Result<(), JsValue> {
        let order = Order::decode(words, bytes).map_err(to_js)?;
        self.0.obey(order).map_err(to_js)
    }
}
