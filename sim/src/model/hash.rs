//! HashKV: the checksum over the key space by which members are compared (etcd 11.6).

use detcd::proto::KeyValue;

use super::Store;

/// The hash of the key space at `revision` when the store is compacted up to `compacted`.
///
/// It covers what a compaction keeps, whether or not the removal of the rest has got there.
pub(super) fn of(store: &Store, revision: i64, compacted: i64) -> u32 {
    let mut records: Vec<((i64, i64), bool, KeyValue)> = Vec::new();
    for (key, versions) in &store.keys {
        let until: Vec<_> = versions.iter().filter(|version| version.main <= revision).collect();
        for (place, version) in until.iter().enumerate() {
            // A tombstone is its key alone. The last one of a key is kept only if it is younger.
            let newest = place + 1 == until.len() && version.record.is_some();
            if version.main > compacted || newest {
                let only_key = || KeyValue { key: key.clone(), ..KeyValue::default() };
                let record = version.record.clone().unwrap_or_else(only_key);
                records.push(((version.main, version.sub), version.record.is_none(), record));
            }
        }
    }
    if store.alive(super::Interval { key: b"", range_end: b"\0" }, revision).is_empty() {
        // etcd then counts everything that is stored up to the compaction.
        records.extend(kept_by_compaction(store, revision, compacted));
    }
    records.sort_by_key(|(place, ..)| *place);
    let mut crc = Crc::default();
    crc.add(b"key");
    for ((main, sub), tombstone, record) in records {
        crc.add(&main.to_be_bytes());
        crc.add(b"_");
        crc.add(&sub.to_be_bytes());
        crc.add(if tombstone { b"t" } else { b"" });
        crc.add(&record.encode_to_bytes());
    }
    crc.0
}

/// The records up to the compaction that it keeps: of each key the newest, unless that is a tombstone.
/// Only asked where the hashed revision has no key at all, so that none of them is the newest there.
fn kept_by_compaction(store: &Store, revision: i64, compacted: i64) -> Vec<((i64, i64), bool, KeyValue)> {
    let mut kept = Vec::new();
    for versions in store.keys.values() {
        let Some(version) = versions.iter().rev().find(|version| version.main <= compacted) else { continue };
        if version.main <= revision
            && let Some(record) = &version.record
        {
            kept.push(((version.main, version.sub), false, record.clone()));
        }
    }
    kept
}

/// CRC-32C.
#[derive(Default)]
struct Crc(u32);

/// What each byte does to the sum.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

impl Crc {
    fn add(&mut self, bytes: &[u8]) {
        let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)];
        self.0 = !bytes.iter().fold(!self.0, step);
    }
}
