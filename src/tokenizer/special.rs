//! Tokens that are found in the text as they are written, before it is split into words.

use super::vocabulary::{Kind, Vocabulary, reject_repeated_special};
use crate::Result;

/// Which of these tokens are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Control and user-defined tokens.
    All,
    /// User-defined tokens only; what reads as a control token is plain text.
    UserDefined,
}

/// The control and user-defined tokens of a vocabulary, prepared for search.
pub(super) struct SpecialTokens {
    /// Their ids, in the order of their bytes.
    sorted: Vec<u32>,
    /// Whether any of them begins with a byte.
    begins: [bool; 256],
}

impl SpecialTokens {
    /// # Errors
    /// Of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) if two of the tokens are the same.
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self> {
        reject_repeated_special(vocabulary)?;
        let ids = vocabulary.ids_of(Kind::Control).chain(vocabulary.ids_of(Kind::UserDefined));
        let mut sorted: Vec<u32> =
            ids.filter(|id| vocabulary.bytes(*id).is_some_and(|bytes| !bytes.is_empty())).collect();
        sorted.sort_unstable_by_key(|id| vocabulary.bytes(*id));
        let mut begins = [false; 256];
        for id in &sorted {
            if let Some(first) = vocabulary.bytes(*id).and_then(<[u8]>::first) {
                begins[*first as usize] = true;
            }
        }
        Ok(Self { sorted, begins })
    }

    /// The token that is exactly `bytes`.
    pub(super) fn find(&self, vocabulary: &Vocabulary, bytes: &[u8]) -> Option<u32> {
        let found = self.sorted.binary_search_by_key(&Some(bytes), |id| vocabulary.bytes(*id));
        Some(self.sorted[found.ok()?])
    }

    /// The leftmost token in `text`, the longest of several, with the offset it begins at.
    pub(super) fn next_in(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        wanted: Wanted,
    ) -> Option<(usize, u32)> {
        let text = text.as_bytes();
        (0..text.len())
            .filter(|start| self.begins[text[*start] as usize])
            .find_map(|start| Some((start, self.longest(vocabulary, &text[start..], wanted)?)))
    }

    /// The longest token that `text` begins with. `candidates` are the tokens that agree with
    /// the first `depth` bytes of `text`; since they are sorted, a token of just these bytes is
    /// the first of them.
    fn longest(&self, vocabulary: &Vocabulary, text: &[u8], wanted: Wanted) -> Option<u32> {
        let mut candidates = self.sorted.as_slice();
        let mut longest = None;
        for (depth, byte) in text.iter().enumerate() {
            let byte_at = |id: &u32| vocabulary.bytes(*id).and_then(|bytes| bytes.get(depth));
            let start = candidates.partition_point(|id| byte_at(id) < Some(byte));
            let len = candidates[start..].partition_point(|id| byte_at(id) == Some(byte));
            candidates = &candidates[start..start + len];
            let Some(first) = candidates.first() else { break };
            let whole = vocabulary.bytes(*first).is_some_and(|bytes| bytes.len() == depth + 1);
            if whole
                && (wanted == Wanted::All || vocabulary.kind(*first) == Some(Kind::UserDefined))
            {
                longest = Some(*first);
            }
        }
        longest
    }
}
