//! placeholder
use bytes::Bytes;
pub struct Model;
impl Model {
    pub fn new() -> Self { Self }
    pub fn apply(&mut self, _index: u64, _data: &Bytes) {}
    pub fn revision(&self) -> i64 { 0 }
    pub fn compacted(&self) -> i64 { 0 }
    pub fn revision_at(&self, _index: u64) -> i64 { 0 }
}
