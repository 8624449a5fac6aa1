//! A plan as one thread carries it out: all of it, or a share.
//!
//! Threads share rows of matrices: each computes some columns of every product, and what another operation
//! needs whole is gathered from all of them. Heads are shared in groups with their keys and values, so
//! that attention and its cache stay with one thread. Each number is computed as by one thread alone, in
//! the same order.

use std::{collections::HashMap, iter, ops::Range};

use serde::{Deserialize, Serialize};

use super::{MAX_CHUNK, MAX_EVALUATION};
use crate::{
    ops::{
        BufferId, CacheShape, Experts, Heads, Linear, Op, Plan, Then, ThenExperts, rope::RopeTable,
    },
    weights::{Segment, Weight, WeightId},
};

/// What a thread carries out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// The weights that the steps name, as far as this thread holds them.
    pub(super) weights: Vec<Weight>,
    /// Elements of each activation buffer for each token.
    pub(super) widths: Vec<usize>,
    pub(super) caches: Vec<CacheShape>,
    pub(super) rope: RopeTable,
    /// From tokens to the residual stream after the last layer.
    pub(super) steps: Vec<Step>,
    /// Counts of steps after which `hidden` is the embedding, and the output of each layer.
    pub(super) step_ends: Vec<usize>,
    /// From a row of `hidden` to this thread's logits.
    pub(super) head: Linear,
    /// How the logits of all threads come together; all are this thread's where absent.
    pub(super) logits: Option<Gather>,
}

/// One step of a program.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Step {
    /// An operation on what this thread holds.
    Op(Op),
    /// Rows of a table of which each thread holds some: the tokens' rows, from whoever holds them.
    Embed {
        table: WeightId,
        /// The first row of this thread's.
        first: usize,
        /// Output, [n_tokens, width].
        out: BufferId,
    },
    /// This thread's columns of what `gather.out` holds go to `gather.part`.
    Slice(Gather),
    /// The reverse, of all threads.
    Gather(Gather),
}

/// A buffer that threads share, and the columns of it that are this thread's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Gather {
    /// This thread's columns.
    pub part: BufferId,
    /// All columns.
    pub out: BufferId,
    /// Rows for each token.
    pub n_rows: usize,
    pub split: Split,
}

/// How columns are shared by threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Split {
    /// Number of columns.
    pub width: usize,
    /// Columns that stay together; divides `width` unless it is [`TILE`].
    pub unit: usize,
}

/// Rows of matrices that are computed together, at best.
const TILE: usize = 4;

impl Split {
    /// The columns of thread `rank` of `size`.
    pub fn of(self, rank: usize, size: usize) -> Range<usize> {
        let n_units = self.width.div_ceil(self.unit);
        // The first thread, which also draws tokens, has the smaller part.
        let bound = |rank: usize| (rank * n_units / size * self.unit).min(self.width);
        bound(rank)..bound(rank + 1)
    }
}

/// Rows of each weight that a thread holds, in order.
pub struct Share(Vec<Vec<Range<usize>>>);

/// Rows that a thread takes of those being written.
pub struct Taken {
    /// Which of the rows written.
    pub source: Range<usize>,
    /// Where they stand in the thread's segment.
    pub rows: Range<usize>,
}

impl Share {
    /// What goes to this thread when `rows` of a segment, which are `segment` in their weight, are written.
    pub fn taken(
        &self,
        weight: WeightId,
        segment: Range<usize>,
        rows: Range<usize>,
    ) -> impl Iterator<Item = Taken> {
        let written = segment.start + rows.start..segment.start + rows.end;
        let mut held = 0;
        self.0[weight.0].iter().filter_map(move |range| {
            let range = overlap(range, &segment);
            let first = held;
            held += range.len();
            let part = overlap(&range, &written);
            let at = first + part.start - range.start;
            (!part.is_empty()).then(|| Taken {
                source: part.start - written.start..part.end - written.start,
                rows: at..at + part.len(),
            })
        })
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

impl Program {
    /// All of `plan`.
    pub fn whole(plan: &Plan) -> Self {
        Self {
            weights: plan
                .weights
                .weights
                .iter()
                .map(|weight| held(weight, &all_rows(weight)))
                .collect(),
            widths: plan.buffers.iter().map(|buffer| buffer.width).collect(),
            caches: plan.caches.clone(),
            rope: plan.rope.clone(),
            steps: plan.layers.iter().copied().map(Step::Op).collect(),
            step_ends: plan.layer_ends.clone(),
            head: plan.head,
            logits: None,
        }
    }

    /// How many threads `plan` has work for: each has keys and values to attend to.
    pub fn most_threads(plan: &Plan) -> usize {
        plan.caches.iter().map(|cache| cache.heads.n_kv_heads).min().unwrap_or(1)
    }

    /// The share of thread `rank` of `size` in `plan`.
    ///
    /// # Panics
    /// When `size` is above [`most_threads`](Self::most_threads).
    pub fn share(plan: &Plan, rank: usize, size: usize) -> (Self, Share) {
        assert!(size <= Self::most_threads(plan), "each thread has heads");
        let mut cutter = Cutter {
            plan,
            rank,
            size,
            rows: vec![None; plan.weights.weights.len()],
            program: Self { steps: Vec::new(), step_ends: Vec::new(), ..Self::whole(plan) },
            parts: HashMap::new(),
        };
        for (index, op) in plan.layers.iter().enumerate() {
            if plan.layer_ends.contains(&index) {
                cutter.program.step_ends.push(cutter.program.steps.len());
            }
            cutter.op(*op);
        }
        cutter.program.step_ends.push(cutter.program.steps.len());
        cutter.finish()
    }

    /// How many of the steps lead to keys and values.
    pub(super) fn n_to_caches(&self) -> usize {
        let writes = |step: &Step| matches!(step, Step::Op(op) if op.writes_cache());
        self.steps.iter().rposition(writes).map_or(0, |last| last + 1)
    }

    /// Most numbers that a thread shows to the others at once.
    pub(super) fn most_shown(&self) -> usize {
        let shown = |step: &Step| match *step {
            Step::Gather(gather) => MAX_CHUNK * self.widths[gather.part.0],
            Step::Embed { out, .. } => MAX_CHUNK * self.widths[out.0],
            Step::Op(_) | Step::Slice(_) => 0,
        };
        let logits = self.logits.map_or(0, |gather| self.widths[gather.part.0]);
        self.steps.iter().map(shown).max().unwrap_or(0).max(logits).max(1)
    }

    /// Numbers of a chunk in each activation buffer.
    pub(super) fn n_values(&self) -> impl Iterator<Item = u64> {
        let logits = [Some(self.head.out), self.logits.map(|gather| gather.out)];
        self.widths.iter().enumerate().map(move |(index, width)| {
            let is_logits = logits.contains(&Some(BufferId(index)));
            let n_rows = if is_logits { MAX_EVALUATION } else { MAX_CHUNK };
            *width as u64 * n_rows as u64
        })
    }
}

/// Cuts a plan for one thread.
struct Cutter<'a> {
    plan: &'a Plan,
    rank: usize,
    size: usize,
    /// Rows of each weight that this thread holds; all of them where absent.
    rows: Vec<Option<Vec<Range<usize>>>>,
    program: Program,
    /// The buffer for this thread's columns of another.
    parts: HashMap<BufferId, BufferId>,
}

impl Cutter<'_> {
    fn op(&mut self, op: Op) {
        match op {
            Op::Embed { table, out } => {
                let own = self.own(rows(self.plan.weights.get(table).n_rows));
                let first = own.start;
                self.hold(table, vec![own]);
                self.program.steps.push(Step::Embed { table, first, out });
            }
            Op::Linear(linear) => self.linear(linear),
            Op::Rope { qkv, cache, heads, pairing, n_rot } => {
                let heads = self.own_heads(heads);
                self.program.caches[cache.0].heads = heads;
                self.program.widths[qkv.0] = heads.qkv_width();
                self.push(Op::Rope { qkv, cache, heads, pairing, n_rot });
            }
            Op::Attention { qkv, cache, out, heads, scale, sinks } => {
                if let Some(sinks) = sinks {
                    let own = self.own(Split { width: heads.n_heads, unit: heads.group() });
                    self.hold(sinks, vec![own]);
                }
                let unit = heads.group() * heads.head_dim;
                let gather = self.gather(out, Split { width: heads.q_width(), unit }, 1);
                let heads = self.own_heads(heads);
                self.push(Op::Attention { qkv, cache, out: gather.part, heads, scale, sinks });
                self.program.steps.push(Step::Gather(gather));
            }
            Op::Route { .. } => self.push(op),
            Op::Experts(experts) => self.experts(experts),
        }
    }

    fn linear(&mut self, linear: Linear) {
        let Linear { weight, bias, out, then, .. } = linear;
        let n_out = self.plan.weights.get(weight).n_rows;
        if self.routes(out) {
            // Small, and needed whole by every thread.
            return self.push(Op::Linear(linear));
        }
        if let Some(heads) = self.heads_of(out) {
            let split = Split { width: heads.n_kv_heads, unit: 1 };
            let groups = self.own(split);
            let q_rows = heads.group() * heads.head_dim;
            let queries = groups.start * q_rows..groups.end * q_rows;
            let [keys, values] = [0, heads.kv_width()].map(|first| {
                let first = heads.q_width() + first;
                first + groups.start * heads.head_dim..first + groups.end * heads.head_dim
            });
            self.hold_both(weight, bias, vec![queries, keys, values]);
            return self.push(Op::Linear(linear));
        }
        let gather = match then {
            Then::Store | Then::Add => {
                let gather = self.gather(out, rows(n_out), 1);
                let own = self.own(gather.split);
                self.hold_both(weight, bias, vec![own]);
                gather
            }
            Then::SwiGlu => {
                let gather = self.gather(out, rows(n_out / 2), 1);
                let own = self.own(gather.split);
                self.hold_both(weight, bias, paired(own, n_out / 2).to_vec());
                gather
            }
        };
        self.push_gathered(
            Op::Linear(Linear { out: gather.part, ..linear }),
            gather,
            then == Then::Add,
        );
    }

    fn experts(&mut self, experts: Experts) {
        let Experts { weight, bias, n_experts, n_used, out, then, .. } = experts;
        let n_out = self.plan.weights.get(weight).n_rows / n_experts;
        let firsts = (0..n_experts).map(|expert| expert * n_out);
        let gather = match then {
            ThenExperts::SwiGlu { .. } => {
                let gather = self.gather(out, rows(n_out / 2), n_used);
                let own = self.own(gather.split);
                let ranges =
                    firsts.flat_map(|first| paired(first + own.start..first + own.end, n_out / 2));
                self.hold_both(weight, bias, ranges.collect());
                gather
            }
            ThenExperts::Add => {
                let gather = self.gather(out, rows(n_out), 1);
                let own = self.own(gather.split);
                let ranges = firsts.map(|first| first + own.start..first + own.end);
                self.hold_both(weight, bias, ranges.collect());
                gather
            }
        };
        let op = Op::Experts(Experts { out: gather.part, ..experts });
        self.push_gathered(op, gather, then == ThenExperts::Add);
    }

    fn finish(mut self) -> (Program, Share) {
        let head = self.plan.head;
        let gather = self.gather(head.out, rows(self.plan.n_vocab), 1);
        let own = self.own(gather.split);
        self.hold_both(head.weight, head.bias, vec![own]);
        if self.rank > 0 {
            // Only the first thread draws tokens.
            self.program.widths[head.out.0] = 0;
        }
        let weights = &self.plan.weights.weights;
        let rows = self.rows.into_iter().zip(weights);
        let share: Vec<_> =
            rows.map(|(rows, weight)| rows.unwrap_or_else(|| all_rows(weight))).collect();
        let held = weights.iter().zip(&share).map(|(weight, rows)| held(weight, rows));
        let program = Program {
            weights: held.collect(),
            head: Linear { out: gather.part, ..head },
            logits: Some(gather),
            ..self.program
        };
        (program, Share(share))
    }

    fn push(&mut self, op: Op) {
        self.program.steps.push(Step::Op(op));
    }

    /// Adds an operation on this thread's columns, which `adds` to what is there.
    fn push_gathered(&mut self, op: Op, gather: Gather, adds: bool) {
        if adds {
            self.program.steps.push(Step::Slice(gather));
        }
        self.push(op);
        self.program.steps.push(Step::Gather(gather));
    }

    fn own(&self, split: Split) -> Range<usize> {
        split.of(self.rank, self.size)
    }

    fn own_heads(&self, heads: Heads) -> Heads {
        let n_kv_heads = self.own(Split { width: heads.n_kv_heads, unit: 1 }).len();
        Heads { n_heads: n_kv_heads * heads.group(), n_kv_heads, ..heads }
    }

    /// A buffer of `n_rows` rows a token for this thread's columns of `out`.
    fn gather(&mut self, out: BufferId, split: Split, n_rows: usize) -> Gather {
        let width = n_rows * self.own(split).len();
        let widths = &mut self.program.widths;
        let part = *self.parts.entry(out).or_insert_with(|| {
            widths.push(width);
            BufferId(widths.len() - 1)
        });
        Gather { part, out, n_rows, split }
    }

    fn hold_both(&mut self, weight: WeightId, bias: Option<WeightId>, rows: Vec<Range<usize>>) {
        if let Some(bias) = bias {
            self.hold(bias, rows.clone());
        }
        self.hold(weight, rows);
    }

    fn hold(&mut self, weight: WeightId, rows: Vec<Range<usize>>) {
        let held = self.rows[weight.0].get_or_insert_with(|| rows.clone());
        assert_eq!(*held, rows, "a weight is shared in one way");
    }

    /// The heads whose queries, keys and values `buffer` holds.
    fn heads_of(&self, buffer: BufferId) -> Option<Heads> {
        self.plan.layers.iter().find_map(|op| match op {
            Op::Rope { qkv, heads, .. } if *qkv == buffer => Some(*heads),
            _ => None,
        })
    }

    /// Whether `buffer` holds the logits of a router.
    fn routes(&self, buffer: BufferId) -> bool {
        let reads = |op: &Op| matches!(op, Op::Route { logits, .. } if *logits == buffer);
        self.plan.layers.iter().any(reads)
    }
}

fn rows(n_rows: usize) -> Split {
    Split { width: n_rows, unit: TILE }
}

/// `rows` and those that stand `distance` behind them.
fn paired(rows: Range<usize>, distance: usize) -> [Range<usize>; 2] {
    [rows.clone(), rows.start + distance..rows.end + distance]
}

fn all_rows(weight: &Weight) -> Vec<Range<usize>> {
    iter::once(0..weight.n_rows).collect()
}

/// `rows` of `weight`.
fn held(weight: &Weight, rows: &[Range<usize>]) -> Weight {
    let mut n_rows = 0;
    let mut segment = |segment: &Segment| {
        let first = n_rows;
        n_rows += rows.iter().map(|rows| overlap(rows, &segment.rows).len()).sum::<usize>();
        Segment { layout: segment.layout, rows: first..n_rows, parts: Vec::new() }
    };
    Weight {
        name: String::new(),
        n_cols: weight.n_cols,
        grouping: weight.grouping,
        segments: weight.segments.iter().map(&mut segment).collect(),
        n_rows,
    }
}
