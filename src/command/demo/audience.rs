//! Who reads along, as any consumer would?

use std::collections::HashMap;
use std::time::Instant;

use tokio::runtime::Handle;

use super::error::{DemoError, PATIENCE};
use super::reader::{Account, Follower, Record};
use super::stage::Stage;
use crate::avro::{Decoder, Framed, unframe};
use crate::registry::Registry;

/// Who reads along, and knows what stood there before.
pub(super) struct Audience {
    follower: Follower,
    pub latest: HashMap<String, Record>,
    registry: Registry,
    runtime: Handle,
    schemas: HashMap<u32, Decoder>,
}

impl Audience {
    pub(super) fn new(stage: &Stage, runtime: &Handle) -> Result<Self, DemoError> {
        Ok(Self {
            follower: Follower::new(stage.servers(), stage.accounts_topic()),
            latest: HashMap::new(),
            registry: stage.registry()?,
            runtime: runtime.clone(),
            schemas: HashMap::new(),
        })
    }

    pub(super) fn wait_for(
        &mut self,
        stage: &mut Stage,
        what: &'static str,
        is_there: impl Fn(&Self) -> bool,
    ) -> Result<(), DemoError> {
        let mut begun = Instant::now();
        while !is_there(self) {
            if let Some(record) = self.follower.next()? {
                begun = Instant::now();
                self.latest.insert(record.key.clone(), record);
                continue;
            }
            stage.check(what)?;
            if begun.elapsed() > PATIENCE {
                return Err(DemoError::TookTooLong { what });
            }
        }
        Ok(())
    }

    /// Changes a few accounts and prints what arrives.
    pub(super) fn watch_changes(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        const CHANGES: usize = 4;
        let mut awaited: HashMap<String, Instant> = HashMap::new();
        for id in stage.change_few(CHANGES) {
            awaited.insert(id, Instant::now());
        }
        let begun = Instant::now();
        while !awaited.is_empty() {
            let Some(record) = self.follower.next()? else {
                stage.check("changes were on their way")?;
                if begun.elapsed() > PATIENCE {
                    return Err(DemoError::TookTooLong { what: "live changes" });
                }
                continue;
            };
            let took = awaited.remove(&record.key).map(|changed_at| changed_at.elapsed());
            let (before, after) = (self.latest.get(&record.key).cloned(), record.clone());
            self.latest.insert(record.key.clone(), record);
            if let Some(took) = took {
                let before = before.map(|before| self.account(&before)).transpose()?;
                println!("   {}", self.account(&after)?.changes_since(before.as_ref(), took));
            }
        }
        Ok(())
    }

    /// Decodes a value with nothing but the registry.
    pub(super) fn account(&mut self, record: &Record) -> Result<Account, DemoError> {
        let Framed::Confluent { schema_id, datum } = unframe(&record.value)? else {
            return Ok(Account::default());
        };
        if !self.schemas.contains_key(&schema_id) {
            let schema = self.runtime.block_on(self.registry.schema(schema_id))?;
            self.schemas.insert(schema_id, Decoder::new(&schema)?);
        }
        let json = serde_json::to_value(self.schemas[&schema_id].decode(datum)?).unwrap_or_default();
        Ok(Account::of(&record.key, json))
    }
}
