//! Reads sound GGUF files back, so that tests can change what they say.

use super::writer::{Entry, File, Tensor, value_type};

/// The number that the format gives to values of 32 bits with a sign.
pub const I32: u32 = 5;

impl File {
    /// The file whose bytes are given, and its data section.
    ///
    /// # Panics
    /// If the file is not sound, or of another alignment than 32 bytes.
    pub fn read(bytes: &[u8]) -> (Self, &[u8]) {
        let mut file = Self::new();
        let mut cursor = Cursor { bytes, at: 0 };
        assert_eq!(cursor.take(4), file.magic);
        assert_eq!(cursor.u32(), file.version);
        let (n_tensors, n_entries) = (cursor.u64(), cursor.u64());
        for _ in 0..n_entries {
            let key = cursor.string().to_vec();
            assert_ne!(key, b"general.alignment");
            let type_number = cursor.u32();
            let start = cursor.at;
            cursor.skip_value(type_number);
            file.entries.push(Entry { key, type_number, value: bytes[start..cursor.at].to_vec() });
        }
        for _ in 0..n_tensors {
            let name = String::from_utf8(cursor.string().to_vec()).unwrap();
            let n_dimensions = cursor.u32();
            let extents = (0..n_dimensions).map(|_| cursor.u64()).collect();
            let (type_number, offset) = (cursor.u32(), cursor.u64());
            file.tensors.push(Tensor { name, extents, type_number, offset });
        }
        let data = &bytes[cursor.at.next_multiple_of(file.alignment)..];
        file.data_len = data.len();
        (file, data)
    }

    /// The header, padded, and `data` after it.
    pub fn with_data(&self, data: &[u8]) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend_from_slice(data);
        out
    }

    /// Replaces the value of `key`, or adds it.
    pub fn set(&mut self, key: &str, type_number: u32, value: impl Into<Vec<u8>>) {
        self.entries.retain(|entry| entry.key != key.as_bytes());
        self.entries.push(Entry { key: key.into(), type_number, value: value.into() });
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n_bytes: usize) -> &'a [u8] {
        self.at += n_bytes;
        &self.bytes[self.at - n_bytes..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn string(&mut self) -> &'a [u8] {
        let n_bytes = self.u64();
        self.take(n_bytes as usize)
    }

    fn skip_value(&mut self, type_number: u32) {
        match type_number {
            value_type::U8 | value_type::BOOL => drop(self.take(1)),
            value_type::U32 | I32 | value_type::F32 => drop(self.take(4)),
            value_type::STRING => drop(self.string()),
            value_type::ARRAY => {
                let (element_type, len) = (self.u32(), self.u64());
                (0..len).for_each(|_| self.skip_value(element_type));
            }
            other => panic!("values of type {other} are not in the files of these tests"),
        }
    }
}
