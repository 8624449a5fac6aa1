//! The journal of a stored model: which of its pieces are stored, and what they are.
//!
//! Records are appended and never changed. Each has a checksum of its own, so that one that is torn by
//! a crash, or damaged later, counts as not written: its piece is then fetched again.

use std::{collections::HashMap, ops::Range};

use sha2::{
    Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::StorageFile;
use crate::error::Result;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 144;

/// Bytes of a SHA-256 that is under way.
const STATE_BYTES: usize = 104;

/// The hash that tells whether a piece is what it was.
pub fn piece_hash(packed: &[u8]) -> u128 {
    xxh3_128(packed)
}

/// What is noted.
#[derive(Clone, Debug)]
pub enum Record {
    /// The piece is stored.
    Stored {
        piece: u32,
        source_bytes: u32,
        packed_bytes: u32,
        hash: u128,
        /// The SHA-256 of the file up to the end of the piece, where it is to be checked.
        file_hash: Option<Box<Sha256>>,
    },
    /// The piece is not sound, and has to be fetched again; `hash` is what it was.
    Damaged { piece: u32, hash: u128 },
    /// The file is the one that was published.
    Verified { file: u32 },
    /// The file is not the one that was published, nor are its pieces, from `first` to before `end`.
    Refused { file: u32, first: u32, end: u32 },
    /// Nothing: it stands where a record was not sound.
    Void,
    /// What is known of the file, and of its pieces from `first` to before `end`, counts no longer.
    Dropped { file: u32, first: u32, end: u32 },
}

impl Record {
    /// The record as it is stored.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let (kind, numbers, hash, state) = match self {
            Self::Stored { piece, source_bytes, packed_bytes, hash, file_hash } => {
                (1, [*piece, *source_bytes, *packed_bytes], *hash, file_hash.as_ref())
            }
            Self::Damaged { piece, hash } => (2, [*piece, 0, 0], *hash, None),
            Self::Verified { file } => (3, [*file, 0, 0], 0, None),
            Self::Refused { file, first, end } => (4, [*file, *first, *end], 0, None),
            Self::Void => (5, [0; 3], 0, None),
            Self::Dropped { file, first, end } => (6, [*file, *first, *end], 0, None),
        };
        let has_state = u8::from(state.is_some());
        bytes[0] = kind;
        bytes[1] = has_state;
        for (slot, number) in bytes[4..16].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *slot = number.to_le_bytes();
        }
        bytes[16..32].copy_from_slice(&hash.to_le_bytes());
        if let Some(state) = state {
            bytes[32..32 + STATE_BYTES].copy_from_slice(&state.serialize());
        }
        let check = xxh3_64(&bytes[..RECORD_BYTES - 8]);
        bytes[RECORD_BYTES - 8..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a record; `None` where it is not sound.
    fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (content, check) = bytes.split_last_chunk::<8>()?;
        if xxh3_64(content) != u64::from_le_bytes(*check) {
            return None;
        }
        let number = |index: usize| {
            let bytes = &content[4 + 4 * index..][..4];
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        let hash = u128::from_le_bytes(*content[16..].first_chunk()?);
        let state: &[u8; STATE_BYTES] = content[32..].first_chunk()?;
        let state = SerializedState::<Sha256>::from(*state);
        Some(match content[0] {
            1 => Self::Stored {
                piece: number(0),
                source_bytes: number(1),
                packed_bytes: number(2),
                hash,
                file_hash: match content[1] {
                    0 => None,
                    _ => Some(Box::new(Sha256::deserialize(&state).ok()?)),
                },
            },
            2 => Self::Damaged { piece: number(0), hash },
            3 => Self::Verified { file: number(0) },
            4 => Self::Refused { file: number(0), first: number(1), end: number(2) },
            5 => Self::Void,
            6 => Self::Dropped { file: number(0), first: number(1), end: number(2) },
            _ => return None,
        })
    }
}

/// What a journal says of one piece.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Whether it is stored, as far as is known.
    pub is_stored: bool,
    /// The hash of its packed form.
    pub hash: u128,
    pub source_bytes: u32,
    pub packed_bytes: u32,
    /// The SHA-256 of the file up to its end.
    pub file_hash: Option<Box<Sha256>>,
}

/// All that a journal says.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// By piece.
    pub pieces: HashMap<u32, Noted>,
    /// Files that are those that were published.
    pub verified: Vec<u32>,
    /// Files that were not those that were published, and have not been since.
    pub refused: Vec<u32>,
    /// Records in it, those that are not sound included.
    pub n_records: usize,
    /// Which records are not sound.
    pub unsound: Vec<usize>,
}

impl Journal {
    /// Reads a journal; what is not sound is passed over.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut journal = Self::default();
        for (index, record) in bytes.as_chunks().0.iter().enumerate() {
            match Record::from_bytes(record) {
                Some(record) => journal.apply(record),
                None => journal.unsound.push(index),
            }
        }
        journal.n_records = bytes.len() / RECORD_BYTES;
        journal
    }

    /// Writes one record to the journal's file, and takes it in.
    ///
    /// # Errors
    /// Those of the file.
    pub fn append(&mut self, record: Record, file: &dyn StorageFile) -> Result<()> {
        file.write((self.n_records * RECORD_BYTES) as u64, &record.to_bytes())?;
        self.n_records += 1;
        self.apply(record);
        Ok(())
    }

    /// Takes in one record.
    fn apply(&mut self, record: Record) {
        match record {
            Record::Stored { piece, source_bytes, packed_bytes, hash, file_hash } => {
                let noted = Noted { is_stored: true, hash, source_bytes, packed_bytes, file_hash };
                // What a piece was hashed as on the way stays true when it is fetched again.
                let before = self.pieces.insert(piece, noted);
                let noted = self.pieces.get_mut(&piece).expect("inserted above");
                if let Some(before) = before
                    && noted.file_hash.is_none()
                {
                    noted.file_hash = before.file_hash;
                }
            }
            Record::Damaged { piece, hash } => {
                if let Some(noted) = self.pieces.get_mut(&piece)
                    && noted.hash == hash
                {
                    noted.is_stored = false;
                }
            }
            Record::Verified { file } => {
                self.refused.retain(|refused| *refused != file);
                if !self.verified.contains(&file) {
                    self.verified.push(file);
                }
            }
            Record::Refused { file, first, end } => {
                self.drop_file(file, first..end);
                self.refused.push(file);
            }
            Record::Dropped { file, first, end } => self.drop_file(file, first..end),
            Record::Void => {}
        }
    }

    fn drop_file(&mut self, file: u32, pieces: Range<u32>) {
        self.verified.retain(|verified| *verified != file);
        self.refused.retain(|refused| *refused != file);
        self.pieces.retain(|piece, _| !pieces.contains(piece));
    }

    /// Whether piece `index` is stored, as far as is known.
    pub fn has(&self, index: usize) -> bool {
        self.noted(index).is_some_and(|noted| noted.is_stored)
    }

    /// What is known of piece `index`.
    pub fn noted(&self, index: usize) -> Option<&Noted> {
        u32::try_from(index).ok().and_then(|index| self.pieces.get(&index))
    }

    /// Number of pieces that are known to be damaged.
    pub fn n_damaged(&self) -> usize {
        self.pieces.values().filter(|noted| !noted.is_stored).count()
    }

    /// What is known of the pieces that are stored.
    pub fn stored(&self) -> impl Iterator<Item = &Noted> {
        self.pieces.values().filter(|noted| noted.is_stored)
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    fn stored(piece: u32, hash: u128, file_hash: Option<&[u8]>) -> Record {
        let file_hash = file_hash.map(|bytes| Box::new(Sha256::new().chain_update(bytes)));
        Record::Stored { piece, source_bytes: 7, packed_bytes: 9, hash, file_hash }
    }

    fn bytes(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(Record::to_bytes).collect()
    }

    #[test]
    fn records_come_back_and_the_hash_of_a_file_goes_on() {
        let journal = Journal::from_bytes(&bytes(&[
            stored(3, 1 << 100, Some(b"abc")),
            stored(0, 5, None),
            Record::Verified { file: 1 },
        ]));
        assert!(journal.has(3) && journal.has(0) && !journal.has(1));
        assert_eq!(journal.verified, [1]);
        let noted = journal.noted(3).unwrap();
        assert_eq!((noted.hash, noted.source_bytes, noted.packed_bytes), (1 << 100, 7, 9));
        let hash = *noted.file_hash.clone().unwrap();
        assert_eq!(hash.chain_update(b"def").finalize(), Sha256::digest(b"abcdef"));
    }

    #[test]
    fn a_damaged_piece_keeps_its_hash_and_a_refused_file_keeps_nothing() {
        let mut records = vec![stored(0, 5, Some(b"a")), stored(1, 6, Some(b"ab"))];
        records.push(Record::Damaged { piece: 0, hash: 5 });
        let journal = Journal::from_bytes(&bytes(&records));
        assert!(!journal.has(0));
        assert_eq!(journal.noted(0).unwrap().hash, 5);
        records.push(stored(0, 5, None));
        let journal = Journal::from_bytes(&bytes(&records));
        assert!(journal.has(0) && journal.noted(0).unwrap().file_hash.is_some());
        records.push(Record::Verified { file: 0 });
        records.push(Record::Refused { file: 0, first: 0, end: 2 });
        let journal = Journal::from_bytes(&bytes(&records));
        assert!(journal.pieces.is_empty() && journal.verified.is_empty());
        assert_eq!(journal.refused, [0]);
        records.push(Record::Dropped { file: 0, first: 0, end: 2 });
        assert!(Journal::from_bytes(&bytes(&records)).refused.is_empty());
    }

    #[test]
    fn any_flipped_bit_costs_one_record_and_a_torn_one_is_passed_over() {
        let whole = bytes(&[stored(0, 5, None), stored(1, 6, Some(b"x")), stored(2, 7, None)]);
        for bit in RECORD_BYTES * 8..RECORD_BYTES * 16 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let journal = Journal::from_bytes(&flipped);
            assert!(journal.has(0) && !journal.has(1) && journal.has(2), "bit {bit}");
        }
        for len in 0..=whole.len() {
            let journal = Journal::from_bytes(&whole[..len]);
            assert_eq!(journal.pieces.len(), len / RECORD_BYTES);
        }
    }
}
