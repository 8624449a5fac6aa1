//! Guesses at what an answer goes on with, looked up in the prompt and in the answer itself, and
//! whether it pays to compute them along with the next token.
//!
//! Where the last tokens came before, what followed them there is likely to follow again: in texts
//! that are edited, quoted, summed up. Where one token differs, a long match goes on behind it, and the
//! token is expected to be replaced likewise wherever else it stands. Tokens computed together take
//! less time than one by one, since a matrix row is decoded once for all; those that turn out wrong
//! are time lost. So a guess is computed where the tokens expected of it are more than its time is
//! worth. How often guesses are right is learned from those that are not computed as well, which costs
//! nothing; and no more is lost to wrong ones than a share of the answer's time.

use std::{collections::HashMap, ops::Range};

/// Tokens that a guess needs to have in common with what came before.
const SHORTEST: usize = 2;

/// Tokens up to which such matches are compared.
const LONGEST: usize = 32;

/// Places that are compared, the last ones.
const N_PLACES: usize = 8;

/// No place.
const NOWHERE: u32 = u32::MAX;

/// Whether tokens are looked up, and computed along with the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guessing {
    /// Not at all.
    Never,
    /// Where they make an answer faster.
    #[default]
    WherePays,
    /// Wherever something is found: for tests.
    Always,
}

/// Tokens, and where each pair of successive ones occurred.
#[derive(Default)]
pub struct Index {
    tokens: Vec<u32>,
    /// The last place behind each pair.
    last: HashMap<[u32; SHORTEST], u32>,
    /// For each place the one before it behind the same pair.
    before: Vec<u32>,
}

/// What the last tokens have in common with earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The place behind the earlier ones.
    pub place: usize,
    /// How many tokens are equal, up to [`LONGEST`]; one that differs halves those ahead of it.
    pub len: usize,
}

impl Match {
    /// The match with one more token, where it still counts.
    fn followed(self, is_equal: bool) -> Option<Self> {
        let len = if is_equal { LONGEST.min(self.len + 1) } else { self.len / 2 };
        (len >= SHORTEST).then_some(Self { place: self.place + 1, len })
    }
}

impl Index {
    /// Adds a token.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let before = match self.tokens.last_chunk::<SHORTEST>() {
            Some(pair) => self.last.insert(*pair, self.tokens.len() as u32).unwrap_or(NOWHERE),
            None => NOWHERE,
        };
        self.before.push(before);
    }

    /// The longest match of the last tokens among the last places that have any, the last one of equally
    /// long ones.
    pub fn find(&self) -> Option<Match> {
        let mut best: Option<Match> = None;
        let mut place = *self.before.last()?;
        for _ in 0..N_PLACES {
            if place == NOWHERE {
                break;
            }
            let earlier = self.tokens[..place as usize].iter().rev();
            let equal = earlier.zip(self.tokens.iter().rev()).take(LONGEST);
            let len = equal.take_while(|(a, b)| a == b).count();
            if best.is_none_or(|best| len > best.len) {
                best = Some(Match { place: place as usize, len });
            }
            place = self.before[place as usize - 1];
        }
        best
    }

    /// `n_tokens` tokens that followed at `place`; where the last token is reached they go on from there
    /// again.
    pub fn following(&self, place: usize, n_tokens: usize) -> Vec<u32> {
        self.tokens[place..].iter().copied().cycle().take(n_tokens).collect()
    }
}

/// Sizes of guesses: with the token ahead of them they fill tiles of products on the CPU.
const SIZES: [usize; 2] = [3, 7];

/// What a step with a guess of each size takes until that is measured, in steps of one token: with
/// SmolLM2 on one core of a server.
const COSTS: [f64; SIZES.len()] = [1.6, 2.4];

/// How much of the way back to these a measurement goes with each step that does not repeat it: one that
/// something else delayed does not count forever.
const FORGOTTEN: f64 = 0.01;

/// Tokens that a step with a guess must be expected to give, in those that its time is worth.
const WORTHWHILE: f64 = 1.1;

/// How much the last measurement weighs.
const NEWEST: f64 = 0.25;

/// Lengths of matches from which on odds are told apart.
const LENGTHS: [usize; 5] = [2, 3, 4, 8, 16];

/// The odds of each, until they are known: right ones in as many guesses as [`N_ASSUMED`].
const ODDS: [f64; LENGTHS.len()] = [0.3, 0.5, 0.65, 0.8, 0.9];

/// How many guesses the first odds count for.
const N_ASSUMED: f64 = 4.0;

/// What is left of an observation with each one that follows.
const KEPT: f64 = 0.97;

/// Steps that may be lost to begin with.
const FIRST_CREDIT: f64 = 2.5;

/// The share of steps that may be lost later.
const LOST: f64 = 0.02;

/// Steps that may be lost at most, however many were gained.
const MOST_CREDIT: f64 = 8.0;

/// Guesses for one answer.
pub struct Lookup {
    guessing: Guessing,
    index: Index,
    /// What the last tokens have in common with earlier ones.
    found: Option<Match>,
    /// What last stood for a token, where that was another.
    replaced: HashMap<u32, u32>,
    /// By [`LENGTHS`]: right guesses, and all, the older ones by less.
    seen: [[f64; 2]; LENGTHS.len()],
    /// Milliseconds of a step of one token.
    step_ms: Option<f64>,
    /// By [`SIZES`], in steps of one token.
    costs: [f64; SIZES.len()],
    /// Steps that may be lost.
    credit: f64,
}

impl Lookup {
    /// Guesses after `tokens`.
    pub fn new(guessing: Guessing, tokens: &[u32]) -> Self {
        let mut index = Index::default();
        if guessing != Guessing::Never {
            tokens.iter().for_each(|&token| index.push(token));
        }
        Self {
            guessing,
            found: index.find(),
            index,
            replaced: HashMap::new(),
            seen: ODDS.map(|odds| [odds * N_ASSUMED, N_ASSUMED]),
            step_ms: None,
            costs: COSTS,
            credit: FIRST_CREDIT,
        }
    }

    /// What is worth computing along with the next token: at most `limit` tokens, none of them for which
    /// `is_end`.
    pub fn guess(&self, limit: usize, is_end: impl Fn(u32) -> bool) -> Vec<u32> {
        let Some(found) = self.found else { return Vec::new() };
        let mut tokens = self.index.following(found.place, limit.min(SIZES[SIZES.len() - 1]));
        tokens.iter_mut().for_each(|token| *token = self.in_place_of(*token));
        tokens.truncate(tokens.iter().position(|&token| is_end(token)).unwrap_or(tokens.len()));
        if self.guessing == Guessing::WherePays {
            tokens.truncate(self.best_size(found.len, tokens.len()));
        }
        tokens
    }

    /// How many of `available` guesses behind a match of `len` tokens are worth their time.
    fn best_size(&self, len: usize, available: usize) -> usize {
        // A clock may be too coarse to tell.
        if self.step_ms.is_none_or(|milliseconds| milliseconds <= 0.0) {
            return 0;
        }
        let mut best = (0, WORTHWHILE);
        for (size, cost) in SIZES.into_iter().zip(self.costs) {
            let gain = self.expected(len..len + size) / cost;
            if size <= available && gain > best.1 && cost - 1.0 <= self.credit {
                best = (size, gain);
            }
        }
        best.0
    }

    /// Tokens that a step with a guess gives on average, of which the match grows through `lens`.
    fn expected(&self, lens: Range<usize>) -> f64 {
        let mut all_right = 1.0;
        1.0 + lens
            .map(|len| {
                let [right, all] = self.seen[class(len)];
                all_right *= right / all;
                all_right
            })
            .sum::<f64>()
    }

    /// Takes note of a drawn token.
    pub fn push(&mut self, token: u32) {
        if self.guessing == Guessing::Never {
            return;
        }
        let followed = self.found.and_then(|found| self.follow(found, token));
        self.index.push(token);
        let found = self.index.find();
        // The last of equally long ones, hence the one that was followed.
        self.found = found.into_iter().chain(followed).max_by_key(|found| found.len);
    }

    /// Compares a drawn token with what followed at `found`; gives the match that goes on behind both.
    fn follow(&mut self, found: Match, token: u32) -> Option<Match> {
        let earlier = self.index.tokens[found.place];
        let is_right = self.in_place_of(earlier) == token;
        let [right, all] = &mut self.seen[class(found.len)];
        (*right, *all) = (*right * KEPT + f64::from(u8::from(is_right)), *all * KEPT + 1.0);
        let followed = found.followed(is_right);
        if followed.is_some() && earlier != token {
            self.replaced.insert(earlier, token);
        } else {
            self.replaced.remove(&earlier);
        }
        followed
    }

    /// What is expected where `token` stood before.
    fn in_place_of(&self, token: u32) -> u32 {
        self.replaced.get(&token).copied().unwrap_or(token)
    }

    /// Takes the time of a step that drew `n_drawn` tokens with a guess of `n_guessed`.
    pub fn record(&mut self, n_guessed: usize, n_drawn: usize, milliseconds: f64) {
        let smoothed = |old: f64, new: f64| old + (new - old) * NEWEST;
        for (cost, assumed) in self.costs.iter_mut().zip(COSTS) {
            *cost += (assumed - *cost) * FORGOTTEN;
        }
        if n_guessed == 0 {
            let step_ms = self.step_ms.map_or(milliseconds, |old| smoothed(old, milliseconds));
            self.step_ms = Some(step_ms);
            self.credit += LOST;
        } else if let Some(step_ms) = self.step_ms {
            let cost = milliseconds / step_ms;
            if let Some(index) = SIZES.iter().position(|&size| size == n_guessed) {
                self.costs[index] = smoothed(self.costs[index], cost);
            }
            self.credit += n_drawn as f64 - cost;
        }
        self.credit = self.credit.min(MOST_CREDIT);
    }
}

/// The place in [`LENGTHS`] of a match of `len` tokens.
fn class(len: usize) -> usize {
    LENGTHS.iter().rposition(|&least| len >= least).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`Index::find`] is to find, by looking at all places.
    fn longest_match(tokens: &[u32]) -> Option<Match> {
        let len = |place: usize| {
            let equal = tokens[..place].iter().rev().zip(tokens.iter().rev());
            equal.take_while(|(a, b)| a == b).count().min(LONGEST)
        };
        let places = (SHORTEST..tokens.len()).rev().filter(|&place| len(place) >= SHORTEST);
        let matches = places.take(N_PLACES).map(|place| Match { place, len: len(place) });
        matches.reduce(|best, other| if other.len > best.len { other } else { best })
    }

    proptest! {
        #[test]
        fn the_longest_of_the_last_matches_is_found(
            tokens in (1..5_u32).prop_flat_map(|n| prop::collection::vec(0..n, 0..120)),
        ) {
            let mut index = Index::default();
            for n_tokens in 0..=tokens.len() {
                let found = index.find();
                prop_assert_eq!(found, longest_match(&tokens[..n_tokens]));
                if let Some(Match { place, .. }) = found {
                    let period = n_tokens - place;
                    for (i, token) in index.following(place, 10).into_iter().enumerate() {
                        prop_assert_eq!(token, tokens[place + i % period]);
                    }
                }
                if let Some(&token) = tokens.get(n_tokens) {
                    index.push(token);
                }
            }
        }
    }

    /// The time of an answer, in steps of one token, where a step with a guess of each of [`SIZES`] takes
    /// `costs`.
    fn steps(prompt: &[u32], answer: &[u32], costs: [f64; SIZES.len()]) -> f64 {
        let mut lookup = Lookup::new(Guessing::WherePays, prompt);
        let (mut taken, mut left) = (0.0, answer);
        while !left.is_empty() {
            let guess = lookup.guess(left.len() - 1, |_| false);
            let n_right = guess.iter().zip(left).take_while(|(a, b)| a == b).count();
            let (drawn, rest) = left.split_at(n_right + 1);
            drawn.iter().for_each(|&token| lookup.push(token));
            let size = SIZES.iter().position(|&size| size == guess.len());
            let cost = size.map_or(1.0, |size| costs[size]);
            assert!(size.is_some() || guess.is_empty(), "guesses fill tiles");
            lookup.record(guess.len(), drawn.len(), cost * 25.0);
            taken += cost;
            left = rest;
        }
        taken
    }

    /// Tokens below `n`, as they come.
    fn random(n: u32, n_tokens: usize, seed: u32) -> Vec<u32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % n
        };
        std::iter::repeat_with(next).take(n_tokens).collect()
    }

    #[test]
    fn edited_texts_take_less_time() {
        let text = random(40_000, 400, 1);
        let mut edited = text.clone();
        (10..400).step_by(20).for_each(|at| edited[at] = 50_000);
        let taken = steps(&text, &edited, [1.8, 2.8]);
        assert!(taken < 400.0 / 1.5, "{taken} steps");
        let taken = steps(&text, &edited, [3.9, 7.8]);
        assert!(taken < 400.0 * 1.03, "{taken} steps where rows do not take less time together");
    }

    #[test]
    fn renamed_texts_take_the_least() {
        let mut text = random(40_000, 400, 1);
        (10..400).step_by(20).for_each(|at| text[at] = 50_000);
        let renamed: Vec<u32> =
            text.iter().map(|&token| if token == 50_000 { 50_001 } else { token }).collect();
        let taken = steps(&text, &renamed, [1.8, 2.8]);
        assert!(taken < 400.0 / 2.5, "{taken} steps");
    }

    #[test]
    fn a_long_match_goes_on_behind_a_token_that_differs() {
        let text: Vec<u32> = (0..40).chain([5, 41, 5, 42]).collect();
        let mut lookup = Lookup::new(Guessing::Always, &text);
        (0..5).chain([99]).for_each(|token| lookup.push(token));
        assert_eq!(lookup.guess(3, |_| false), [6, 7, 8]);
        (6..40).for_each(|token| lookup.push(token));
        assert_eq!(lookup.guess(4, |_| false), [99, 41, 99, 42], "what 5 became");
        [5, 41].into_iter().for_each(|token| lookup.push(token));
        assert_eq!(lookup.guess(2, |_| false), [5, 42], "what it is again");
    }

    #[test]
    fn a_short_match_ends_at_a_token_that_differs() {
        let mut lookup = Lookup::new(Guessing::Always, &[1, 2, 3, 4, 5, 6]);
        [1, 2, 3, 99].into_iter().for_each(|token| lookup.push(token));
        assert!(lookup.guess(7, |_| false).is_empty());
    }

    #[test]
    fn texts_that_cannot_be_foretold_take_hardly_more_time() {
        for n in [3, 10, 50, 1000] {
            for seed in 0..20 {
                let tokens = random(n, 600, seed);
                let taken = steps(&tokens[..300], &tokens[300..], [2.5, 5.0]);
                assert!(taken <= 300.0 * 1.03, "{taken} steps, {n} tokens, seed {seed}");
            }
        }
    }

    #[test]
    fn nothing_is_guessed_behind_an_end() {
        let lookup = Lookup::new(Guessing::Always, &[1, 2, 3, 4, 5, 6, 1, 2]);
        assert_eq!(lookup.guess(7, |_| false), [3, 4, 5, 6, 1, 2, 3]);
        assert_eq!(lookup.guess(7, |token| token == 5), [3, 4]);
        assert_eq!(lookup.guess(1, |_| false), [3]);
        assert!(lookup.guess(0, |_| false).is_empty());
    }
}
