//! Random contents of tensors, made faster than a disk takes them.
//!
//! A tensor's contents follow from the seed and its name: they do not depend on how many layers
//! there are, nor on which file the tensor is in.

use half::bf16;

/// What a tensor is filled with.
#[derive(Clone, Copy)]
pub enum Fill {
    /// Normally distributed numbers in bf16.
    Normal { mean: f32, deviation: f32 },
    /// MXFP4 codes, two a byte, all equally likely.
    Codes,
    /// MXFP4 scales: `smallest` or the one above it.
    Scales { smallest: u8 },
}

impl Fill {
    /// Scales with which equally likely codes have about this standard deviation.
    pub fn scales_for(deviation: f32) -> Self {
        // The squares of the codes' numbers have the mean 68.5 / 8, those of 1 and 2 the mean 2.5.
        let of_smallest_one = (68.5f32 / 8.0 * 2.5).sqrt();
        let exponent = (deviation / of_smallest_one).log2().round();
        Self::Scales { smallest: (127.0 + exponent) as u8 }
    }
}

/// How many numbers a distribution is sampled from.
const TABLE_LEN: usize = 4096;

/// Writes the contents of one tensor, from its first byte to its last.
pub struct Filler {
    random: Random,
    kind: Kind,
}

enum Kind {
    /// Samples of a distribution, to be drawn from.
    Table(Box<[u16; TABLE_LEN]>),
    Codes,
    /// Eight times the smaller of two scales.
    Scales(u64),
}

impl Filler {
    pub fn new(fill: Fill, seed: u64, name: &str) -> Self {
        let mut random = Random::new(seed, name);
        let kind = match fill {
            Fill::Normal { mean, deviation } => {
                Kind::Table(normal_table(&mut random, mean, deviation))
            }
            Fill::Codes => Kind::Codes,
            Fill::Scales { smallest } => Kind::Scales(u64::from_le_bytes([smallest; 8])),
        };
        Self { random, kind }
    }

    /// Writes the next bytes. All calls but the last take a multiple of eight.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let random = &mut self.random;
        match &self.kind {
            Kind::Table(table) => fill_words(bytes, || {
                let word = random.next();
                let draw = |i: usize| u64::from(table[(word >> (16 * i)) as usize % TABLE_LEN]);
                draw(0) | draw(1) << 16 | draw(2) << 32 | draw(3) << 48
            }),
            Kind::Codes => fill_words(bytes, || random.next()),
            Kind::Scales(smallest) => {
                fill_words(bytes, || smallest + (random.next() & 0x0101_0101_0101_0101));
            }
        }
    }
}

fn fill_words(bytes: &mut [u8], mut word: impl FnMut() -> u64) {
    let (words, rest) = bytes.as_chunks_mut();
    for place in words {
        *place = word().to_le_bytes();
    }
    if !rest.is_empty() {
        let last = word().to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Samples of a normal distribution, each with its mirror image, so that their mean is exact. The
/// sum of twelve uniform numbers stands for a normal one: unlike logarithms and cosines it is the
/// same on every machine.
fn normal_table(random: &mut Random, mean: f32, deviation: f32) -> Box<[u16; TABLE_LEN]> {
    let mut table = Box::new([0; TABLE_LEN]);
    for [low, high] in table.as_chunks_mut().0 {
        let sum: f32 = (0..12).map(|_| (random.next() >> 40) as f32 / (1 << 24) as f32).sum();
        let distance = (sum - 6.0) * deviation;
        *low = bf16::from_f32(mean - distance).to_bits();
        *high = bf16::from_f32(mean + distance).to_bits();
    }
    table
}

/// SplitMix64: a counter whose every value is mixed by two multiplications.
struct Random(u64);

impl Random {
    /// The sequence of a tensor. Its start is an FNV-1a hash of the name.
    fn new(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash ^ Self(seed).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(fill: Fill, n_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; n_bytes];
        Filler::new(fill, 1, "tensor").fill(&mut bytes);
        bytes
    }

    #[track_caller]
    fn expect_moments(numbers: &[f32], mean: f32, deviation: f32) {
        let average = |power: i32| {
            let sum: f64 = numbers.iter().map(|x| f64::from(x - mean).powi(power)).sum();
            sum / numbers.len() as f64
        };
        assert!(average(1).abs() < 0.01 * f64::from(deviation), "mean {}", average(1));
        let found = average(2).sqrt() / f64::from(deviation);
        assert!((found - 1.0).abs() < 0.05, "deviation {found} of what was asked for");
    }

    #[test]
    fn numbers_have_the_mean_and_deviation_asked_for() {
        for (mean, deviation) in [(0.0, 1.0), (0.0, 0.02), (1.0, 0.05)] {
            let bytes = contents(Fill::Normal { mean, deviation }, 2 << 18);
            let numbers: Vec<f32> = bytes
                .as_chunks()
                .0
                .iter()
                .map(|half| bf16::from_le_bytes(*half).to_f32())
                .collect();
            expect_moments(&numbers, mean, deviation);
        }
    }

    #[test]
    fn codes_and_scales_make_numbers_of_the_deviation_asked_for() {
        const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for n_cols in [64.0f32, 2880.0] {
            let codes = contents(Fill::Codes, 1 << 17);
            let scales = contents(Fill::scales_for(1.0 / n_cols.sqrt()), 1 << 13);
            let halves = codes.iter().flat_map(|byte| [byte & 15, byte >> 4]).enumerate();
            let numbers: Vec<f32> = halves
                .map(|(i, code)| {
                    let sign = if code < 8 { 1.0 } else { -1.0 };
                    let exponent = i32::from(scales[i / 32]) - 127;
                    sign * E2M1[usize::from(code % 8)] * 2f32.powi(exponent)
                })
                .collect();
            let square: f32 = numbers.iter().map(|x| x * x).sum::<f32>() / numbers.len() as f32;
            let found = (square * n_cols).sqrt();
            assert!((0.7..1.42).contains(&found), "{found} of what was asked for");
        }
    }

    #[test]
    fn contents_follow_from_seed_and_name_and_not_from_the_pieces() {
        let whole = contents(Fill::Codes, 1003);
        let mut pieces = vec![0; 1003];
        let mut filler = Filler::new(Fill::Codes, 1, "tensor");
        for piece in pieces.chunks_mut(80) {
            filler.fill(piece);
        }
        assert_eq!(whole, pieces);
        for (seed, name) in [(2, "tensor"), (1, "other")] {
            let mut other = vec![0; 1003];
            Filler::new(Fill::Codes, seed, name).fill(&mut other);
            assert_ne!(whole, other);
        }
    }
}
