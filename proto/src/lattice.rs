//! The join-semilattices that a document is made of, on the sound parts of `crdts`.
//!
//! `crdts::{Map, Orswot, MVReg}` break the laws under random histories and are not used. What is
//! used: the trait [`CvRDT`], [`LWWReg`] under a unique marker, and [`VClock`], whose per-actor
//! maximum is the grow-only counter (`GCounter` is the same type behind a big-number sum).

use crate::id::Replica;
use crdts::{CmRDT, CvRDT, Dot, LWWReg, VClock};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// What decides between two writes of a register: unique, since no replica gives a seq twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Marker {
    /// The hybrid stamp, or the number that a stamped value carries.
    pub stamp: u64,
    /// Who wrote.
    pub replica: Replica,
    /// Its operation.
    pub seq: u64,
}

/// A register: the write with the largest marker wins; equal markers (a cloned database) join to
/// the larger bytes, where `LWWReg` alone would diverge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register(LWWReg<Vec<u8>, Marker>);

impl Register {
    /// A register after one write.
    #[must_use]
    pub fn new(marker: Marker, value: Vec<u8>) -> Self {
        Self(LWWReg { val: value, marker })
    }

    /// The winning value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.0.val
    }

    /// The winning marker.
    #[must_use]
    pub const fn marker(&self) -> Marker {
        self.0.marker
    }
}

impl CvRDT for Register {
    type Validation = Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        if other.0.marker == self.0.marker {
            if other.0.val > self.0.val {
                self.0.val = other.0.val;
            }
        } else {
            self.0.merge(other.0);
        }
    }
}

/// A counter that only grows, one total per replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counter(VClock<Replica>);

impl Counter {
    /// Raises one replica's total; a smaller total changes nothing.
    pub fn raise(&mut self, replica: Replica, total: u64) {
        if total > self.0.get(&replica) {
            self.0.apply(Dot::new(replica, total));
        }
    }

    /// The sum over all replicas.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, dot| sum.saturating_add(dot.counter))
    }

    /// One replica's total.
    #[must_use]
    pub fn of(&self, replica: &Replica) -> u64 {
        self.0.get(replica)
    }

    /// Every replica's total, in order.
    #[must_use]
    pub fn totals(&self) -> Vec<(Replica, u64)> {
        self.0.iter().map(|dot| (*dot.actor, dot.counter)).collect()
    }
}

impl CvRDT for Counter {
    type Validation = Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// A value that is written once. Two values under one key, which only a fork of the writer can
/// make, join to the larger bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown(pub Vec<u8>);

impl CvRDT for Grown {
    type Validation = Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        if other.0 > self.0 {
            self.0 = other.0;
        }
    }
}

/// A number that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor(pub u64);

impl CvRDT for Floor {
    type Validation = Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }
}
