//! A hash map in shards that clones share until they change.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::value::{Datum, Uuid};

/// Enough that a change of a table of 10,000 rows copies some 150 entries, few enough that cloning the list of
/// shards costs nothing.
const SHARDS: usize = 64;

/// A key that knows its shard.
pub(super) trait Key: Eq + std::hash::Hash + Clone {
    /// Any number; equal keys have equal ones.
    fn shard(&self) -> u8;
}

impl Key for Uuid {
    fn shard(&self) -> u8 {
        // Version-4 UUIDs are random in every byte but two.
        let [first, ..] = self.0;
        first
    }
}

/// The hash of a datum, as a key that needs no copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn of(datum: &Datum) -> Hash {
        Hash(BuildHasherDefault::<DefaultHasher>::default().hash_one(datum))
    }
}

impl Key for Hash {
    fn shard(&self) -> u8 {
        let [first, ..] = self.0.to_le_bytes();
        first
    }
}

/// A list that is mostly of one, which it then holds without an allocation.
#[derive(Debug, Clone)]
pub(super) enum Few<T> {
    One([T; 1]),
    Any(Vec<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few::Any(Vec::new())
    }
}

impl<T: Copy + PartialEq> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Few::One(one) => one,
            Few::Any(any) => any,
        }
    }

    pub(super) fn push(&mut self, new: T) {
        match self {
            Few::One([one]) => *self = Few::Any(vec![*one, new]),
            Few::Any(any) if any.is_empty() => *self = Few::One([new]),
            Few::Any(any) => any.push(new),
        }
    }

    /// Removes one occurrence.
    pub(super) fn remove(&mut self, old: &T) {
        match self {
            Few::One([one]) if one == old => *self = Few::default(),
            Few::One(_) => {}
            Few::Any(any) => {
                if let Some(at) = any.iter().position(|candidate| candidate == old) {
                    any.swap_remove(at);
                }
            }
        }
    }
}

/// The map.
#[derive(Debug, Clone)]
pub(super) struct Sharded<K, V> {
    shards: Arc<[Arc<HashMap<K, V>>; SHARDS]>,
    len: usize,
}

impl<K: Key, V: Clone> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Sharded { shards: Arc::new(std::array::from_fn(|_| empty.clone())), len: 0 }
    }
}

impl<K: Key, V: Clone> Sharded<K, V> {
    fn shard(&self, key: &K) -> Option<&HashMap<K, V>> {
        self.shards.get(usize::from(key.shard()) % SHARDS).map(|shard| &**shard)
    }

    #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the array's length")]
    fn shard_mut(&mut self, key: &K) -> &mut HashMap<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[usize::from(key.shard()) % SHARDS])
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.shard(key)?.get(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.shard_mut(&key).insert(key, value);
        if old.is_none() {
            self.len = self.len.saturating_add(1);
        }
        old
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        // Without the look first, removing what is not there would copy the shard.
        self.get(key)?;
        self.len = self.len.saturating_sub(1);
        self.shard_mut(key).remove(key)
    }
}

impl<K: Key, V: Clone + Default> Sharded<K, V> {
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        if self.get(&key).is_none() {
            self.len = self.len.saturating_add(1);
        }
        self.shard_mut(&key).entry(key).or_default()
    }
}
