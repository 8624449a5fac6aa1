//! Large lists in the host's memory, refused with an error where they do not fit.
//!
//! In a module with addresses of 32 bits an allocation that fails ends the module, and sizes that data
//! from outside gives may not even be countable. Hence sizes are counted in 64 bits here.

use bytemuck::Zeroable;

use crate::error::{Error, ErrorKind, Result};

/// An empty list with room for `n` elements.
///
/// # Errors
/// `out_of_memory` with the bytes needed.
pub fn room_for<T>(n: u64) -> Result<Vec<T>> {
    Allocation::of(bytes_of::<T>(n)).room_for(n)
}

/// Allocates lists that are needed together.
pub struct Allocation {
    needed: u64,
    granted: u64,
}

impl Allocation {
    /// Begins to allocate lists of `needed` bytes in all.
    pub fn of(needed: u64) -> Self {
        Self { needed, granted: 0 }
    }

    /// An empty list with room for `n` elements.
    ///
    /// # Errors
    /// `out_of_memory` with the bytes of all lists, and of those that were allocated before.
    pub fn room_for<T>(&mut self, n: u64) -> Result<Vec<T>> {
        let mut list = Vec::new();
        let has_room = usize::try_from(n).is_ok_and(|n| list.try_reserve_exact(n).is_ok());
        self.granted::<T>(n, has_room.then_some(list))
    }

    /// `n` zeros.
    ///
    /// # Errors
    /// As [`room_for`](Self::room_for).
    pub fn zeros<T: Zeroable>(&mut self, n: u64) -> Result<Vec<T>> {
        let list = usize::try_from(n).ok().and_then(|n| bytemuck::try_zeroed_vec(n).ok());
        self.granted::<T>(n, list)
    }

    fn granted<T>(&mut self, n: u64, list: Option<Vec<T>>) -> Result<Vec<T>> {
        let refusal = || {
            let message = "what is asked for does not fit into memory";
            Error::new(ErrorKind::OutOfMemory, message)
                .with("needed", self.needed)
                .with("granted", self.granted)
        };
        let list = list.ok_or_else(refusal)?;
        self.granted += bytes_of::<T>(n);
        Ok(list)
    }
}

fn bytes_of<T>(n: u64) -> u64 {
    n.saturating_mul(size_of::<T>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_no_memory_holds_are_refused() {
        let most = isize::MAX as u64;
        for n in [most / 4 + 1, most, u64::MAX] {
            let mut allocation = Allocation::of(u64::MAX);
            let held: Vec<u8> = allocation.zeros(100).unwrap();
            let errors = [
                allocation.room_for::<f32>(n).unwrap_err(),
                allocation.zeros::<f32>(n).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::OutOfMemory);
                assert_eq!(error.detail("needed"), Some(&u64::MAX.into()));
                assert_eq!(error.detail("granted"), Some(&held.len().into()));
            }
        }
    }

    #[test]
    fn lists_have_just_the_room_asked_for() {
        assert_eq!(room_for::<f32>(1000).unwrap().capacity(), 1000);
        assert!(room_for::<f32>(0).unwrap().is_empty());
        assert_eq!(Allocation::of(12).zeros::<f32>(3).unwrap(), [0.0; 3]);
    }
}
