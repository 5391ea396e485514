//! Where records wait that somebody else has yet to take.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::store::StoreError;

/// A queue of records that outlives the process. It keeps bytes and understands none of them.
///
/// The contract, whatever the place: what [`RecordQueue::append`] has taken is there after any crash, in
/// the order it was taken, until it was [finished](RecordQueue::finish). After a crash a finished record
/// may be there again, and one that was refused with an error may be there: at least once, never less.
pub trait RecordQueue: fmt::Debug {
    /// What waits.
    fn load(&mut self) -> Result<Waiting, StoreError>;

    /// Takes `records`, all or none, and says their numbers: once this returns they survive a loss of
    /// power. One call for many records costs little more than one for one.
    fn append(&mut self, records: &[Vec<u8>]) -> Result<Range<u64>, StoreError>;

    /// These wait no longer. After an error they still do not, but may again after a restart.
    fn finish(&mut self, numbers: &[u64]) -> Result<(), StoreError>;
}

/// What a [`RecordQueue`] holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Numbers and records, in order.
    pub records: Vec<(u64, Vec<u8>)>,
    /// How many could not be read that were taken, or were about to be when the power went; some may have
    /// been finished.
    pub lost: u64,
}
