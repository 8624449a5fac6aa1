//! Streams the weights of a model into a sink, piece by piece: from where pieces are kept if they are
//! there and sound, else from the model's files, and then to where pieces are kept.
//!
//! A few pieces are fetched at once and taken in order. Memory stays at those, whatever the size of
//! the model.

use std::{collections::VecDeque, rc::Rc};

use futures_util::{StreamExt, stream};

use super::{Pieces, Sink, WeightTable, pack::Packer};
use crate::{
    error::Result,
    source::{LocalFuture, Source},
};

/// Pieces that are fetched at once.
const IN_FLIGHT: usize = 4;

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The piece that has been taken in.
    pub piece: usize,
    /// Whether it had been kept.
    pub was_kept: bool,
}

/// Told about each piece that has been taken in; an error stops the load.
pub type LoadProgress<'a> = &'a mut dyn FnMut(Loaded) -> Result<()>;

/// Where packed pieces are kept from one load to the next.
pub trait Keeper {
    /// Whether piece `index` is kept.
    fn has(&self, index: usize) -> bool;

    /// Fills `packed` with piece `index`; tells whether it was kept and is sound. What is not sound is
    /// kept no longer.
    ///
    /// # Errors
    /// `storage`.
    fn take<'a>(&'a mut self, index: usize, packed: &'a mut [u8]) -> LocalFuture<'a, Result<bool>>;

    /// Keeps piece `index`, which is `packed` and was `source` in its file.
    ///
    /// # Errors
    /// `quota_exceeded` and `storage`; `invalid_model` when the file is found not to be the published
    /// one.
    fn keep(&mut self, index: usize, source: &[u8], packed: &[u8]) -> Result<()>;
}

/// Keeps nothing.
pub struct NoKeeper;

impl Keeper for NoKeeper {
    fn has(&self, _: usize) -> bool {
        false
    }

    fn take<'a>(&'a mut self, _: usize, _: &'a mut [u8]) -> LocalFuture<'a, Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    fn keep(&mut self, _: usize, _: &[u8], _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Streams every weight of `table` from `files`.
///
/// # Errors
/// Those of the sources and of the sink.
pub async fn load(
    files: &[Rc<dyn Source>],
    table: &WeightTable,
    sink: &mut dyn Sink,
) -> Result<()> {
    let pieces = Pieces::new(table, &[]);
    load_pieces(files, table, &pieces, &mut NoKeeper, sink, &mut |_| Ok(())).await
}

/// Streams every weight of `table`, which is cut into `pieces`, from `keeper` and from `files`.
///
/// # Errors
/// Those of the keeper, the sources, the sink, and of `progress`.
pub async fn load_pieces(
    files: &[Rc<dyn Source>],
    table: &WeightTable,
    pieces: &Pieces,
    keeper: &mut dyn Keeper,
    sink: &mut dyn Sink,
    progress: LoadProgress<'_>,
) -> Result<()> {
    let mut fetcher = Fetcher::new(files, table, pieces, keeper);
    let mut packed = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        packed.resize(piece.packed_bytes, 0);
        let was_kept = keeper.has(index) && keeper.take(index, &mut packed).await?;
        if !was_kept {
            fetcher.fetch(index, keeper, &mut packed).await?;
        }
        pieces.deliver(index, table, &packed, sink)?;
        progress(Loaded { piece: index, was_kept })?;
    }
    Ok(())
}

/// Fetches the pieces that `keeper` has not, for it alone.
///
/// # Errors
/// As [`load_pieces`].
pub async fn fetch_missing(
    files: &[Rc<dyn Source>],
    table: &WeightTable,
    pieces: &Pieces,
    keeper: &mut dyn Keeper,
    progress: LoadProgress<'_>,
) -> Result<()> {
    let mut fetcher = Fetcher::new(files, table, pieces, keeper);
    let mut packed = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        if !keeper.has(index) {
            packed.resize(piece.packed_bytes, 0);
            fetcher.fetch(index, keeper, &mut packed).await?;
            progress(Loaded { piece: index, was_kept: false })?;
        }
    }
    Ok(())
}

/// Fetches pieces ahead of when they are needed.
struct Fetcher<'a> {
    files: &'a [Rc<dyn Source>],
    table: &'a WeightTable,
    pieces: &'a Pieces,
    /// What was missing from the start and has not been asked for yet.
    foreseen: VecDeque<usize>,
    ahead: stream::LocalBoxStream<'a, Result<Vec<u8>>>,
    packer: Packer,
}

impl<'a> Fetcher<'a> {
    /// Will fetch what `keeper` has not at this moment.
    fn new(
        files: &'a [Rc<dyn Source>],
        table: &'a WeightTable,
        pieces: &'a Pieces,
        keeper: &dyn Keeper,
    ) -> Self {
        let foreseen: VecDeque<_> = (0..pieces.len()).filter(|index| !keeper.has(*index)).collect();
        let ahead = stream::iter(foreseen.clone())
            .map(move |index| read(files, pieces, index))
            .buffered(IN_FLIGHT)
            .boxed_local();
        Self { files, table, pieces, foreseen, ahead, packer: Packer::default() }
    }

    /// Fetches piece `index`, packs it into `packed`, and gives it to `keeper`.
    async fn fetch(
        &mut self,
        index: usize,
        keeper: &mut dyn Keeper,
        packed: &mut [u8],
    ) -> Result<()> {
        let is_foreseen = self.foreseen.pop_front_if(|next| *next == index).is_some();
        let source = match is_foreseen.then(|| self.ahead.next()) {
            Some(next) => next.await.expect("the stream has all that was foreseen"),
            // A kept piece turned out not to be sound.
            None => read(self.files, self.pieces, index).await,
        }?;
        self.pieces.pack(index, self.table, &mut self.packer, &source, packed);
        keeper.keep(index, &source, packed)
    }
}

async fn read(files: &[Rc<dyn Source>], pieces: &Pieces, index: usize) -> Result<Vec<u8>> {
    let piece = pieces.get(index);
    let mut bytes = vec![0; piece.source_bytes() as usize];
    let source = &files[piece.file];
    source.read(piece.source.start, &mut bytes).await?;
    if pieces.files()[piece.file].pieces.end == index + 1 {
        source.rest();
    }
    Ok(bytes)
}
