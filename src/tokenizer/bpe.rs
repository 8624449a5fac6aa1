//! Byte-pair encoding: a word's bytes, merged pair by pair in the order the training found.
//!
//! The `tokenizers` crate splits text into words (`split.rs`) but does not merge here: its BPE
//! model refuses a vocabulary that lacks single bytes, as SmolLM2's does, and its perfect-hash
//! tables abort the program on a vocabulary made to collide. This one accepts the first and is
//! indifferent to the second.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::vocabulary::{Vocabulary, from_alphabet};
use crate::{Error, Result};

/// The id of a symbol that was merged away, and of a byte that is not in the vocabulary.
const NONE: u32 = u32::MAX;

/// The merges of a vocabulary.
pub(super) struct Merges {
    /// Each merge at its rank: the lower the rank, the earlier it applies.
    rules: Vec<Rule>,
    /// The rank of each pair of ids.
    ranks: HashMap<(u32, u32), u32>,
    /// The token of each single byte, or [`NONE`].
    bytes: [u32; 256],
}

struct Rule {
    left: u32,
    right: u32,
    merged: u32,
}

/// Buffers for one word after another.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    /// Merges that may apply, as (rank, index of the left symbol), the lowest first.
    candidates: BinaryHeap<Reverse<(u32, u32)>>,
}

/// A node of the doubly linked list that a word is while it is merged.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
}

impl Merges {
    /// Builds the tables from the spellings of the pairs, in the order of their ranks. `special`
    /// looks up a token that is not normal, should a merge name one.
    ///
    /// # Errors
    /// Of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) with the rank of the `merge` that
    /// names a token outside of the vocabulary, or a pair that an earlier one names.
    pub(super) fn new<'a>(
        vocabulary: &Vocabulary,
        special: impl Fn(&[u8]) -> Option<u32>,
        pairs: impl ExactSizeIterator<Item = Result<(&'a str, &'a str)>>,
    ) -> Result<Self> {
        let mut rules = Vec::with_capacity(pairs.len());
        let mut ranks = HashMap::with_capacity(pairs.len());
        let find = |bytes: &[u8]| vocabulary.find(bytes).or_else(|| special(bytes));
        let mut word = Vec::new();
        for (rank, pair) in (0..).zip(pairs) {
            let (left, right) = pair?;
            word.clear();
            let known = from_alphabet(left, &mut word);
            let middle = word.len();
            let known = known && from_alphabet(right, &mut word);
            let ids = || Some((find(&word[..middle])?, find(&word[middle..])?, find(&word)?));
            let Some((left_id, right_id, merged)) = known.then(ids).flatten() else {
                return Err(Error::invalid("a merge names a token that is not in the vocabulary")
                    .with("merge", rank)
                    .with("left", left)
                    .with("right", right));
            };
            if let Some(first) = ranks.insert((left_id, right_id), rank) {
                return Err(Error::invalid("two merges are of the same pair")
                    .with("first", first)
                    .with("second", rank));
            }
            rules.push(Rule { left: left_id, right: right_id, merged });
        }
        let bytes = std::array::from_fn(|byte| vocabulary.find(&[byte as u8]).unwrap_or(NONE));
        Ok(Self { rules, ranks, bytes })
    }

    /// Whether every byte has a token of its own, so that any text can be encoded.
    pub(super) fn covers_all_bytes(&self) -> bool {
        !self.bytes.contains(&NONE)
    }

    /// Appends the tokens of `word`. Of the pairs that can merge, the one of the lowest rank does,
    /// the leftmost of several, until none can. Bytes without a token are left out, and their
    /// neighbours can merge.
    pub(super) fn encode(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { symbols, candidates } = scratch;
        symbols.clear();
        for byte in word {
            let id = self.bytes[*byte as usize];
            if id != NONE {
                let index = symbols.len() as u32;
                symbols.push(Symbol { id, previous: index.wrapping_sub(1), next: index + 1 });
            }
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        candidates.clear();
        for (index, pair) in (0..).zip(symbols.windows(2)) {
            if let Some(rank) = self.ranks.get(&(pair[0].id, pair[1].id)) {
                candidates.push(Reverse((*rank, index)));
            }
        }
        while let Some(Reverse((rank, index))) = candidates.pop() {
            self.merge(&self.rules[rank as usize], index, symbols, candidates);
        }
        out.extend(symbols.iter().map(|symbol| symbol.id).filter(|id| *id != NONE));
    }

    /// Merges the symbol at `index` with the next by `rule`, unless an earlier merge changed them.
    fn merge(
        &self,
        rule: &Rule,
        index: u32,
        symbols: &mut [Symbol],
        candidates: &mut BinaryHeap<Reverse<(u32, u32)>>,
    ) {
        let Symbol { id, previous, next } = symbols[index as usize];
        if id != rule.left || next == NONE || symbols[next as usize].id != rule.right {
            return;
        }
        let after = symbols[next as usize].next;
        symbols[next as usize].id = NONE;
        symbols[index as usize].id = rule.merged;
        symbols[index as usize].next = after;
        if let Some(symbol) = symbols.get_mut(after as usize) {
            symbol.previous = index;
            if let Some(rank) = self.ranks.get(&(rule.merged, symbol.id)) {
                candidates.push(Reverse((*rank, index)));
            }
        }
        if let Some(symbol) = symbols.get(previous as usize)
            && let Some(rank) = self.ranks.get(&(symbol.id, rule.merged))
        {
            candidates.push(Reverse((*rank, previous)));
        }
    }
}
