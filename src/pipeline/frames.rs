//! What stands before the values of a lender's topics?

use crate::avro::{ACCOUNT, CHANGE, Definition, Frame};
use crate::backoff::{AfterTry, Patience};
use crate::config::SubjectStrategy;
use crate::exit::{Diagnosis, chain};
use crate::registry::{self, Registry, RegistryError};
use crate::sink::{Topic, Topics};

/// What stands before the values of a lender's topics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    pub account: Frame,
    /// `None`: nothing is written to `changes`.
    pub change: Option<Frame>,
}

impl Frames {
    /// Asks the registry, where there is one; one that is away or refuses is waited for, as long as the patience lasts.
    ///
    /// # Errors
    /// When it is over.
    pub(crate) async fn find(
        registry: Option<&Registry>,
        strategy: SubjectStrategy,
        lender: &str,
        topics: &Topics,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let frame = |topic, schema| frame(registry, strategy, lender, topic, schema, patience);
        Ok(Self {
            account: frame(&topics.accounts, &ACCOUNT).await?,
            change: match &topics.changes {
                Some(topic) => Some(frame(topic, &CHANGE).await?),
                None => None,
            },
        })
    }
}

/// What stands before every value. A registry that is away or refuses is waited for: nothing is written unframed.
async fn frame(
    registry: Option<&Registry>,
    strategy: SubjectStrategy,
    lender: &str,
    topic: &Topic,
    schema: &Definition,
    patience: Patience,
) -> Result<Frame, RegistryError> {
    let Some(registry) = registry else {
        return Ok(Frame::SingleObject);
    };
    let subject = registry::subject(strategy, &topic.name, schema.name);
    let ask = || registry.schema_id(&subject, schema.text);
    let say = |error: &RegistryError, wait| {
        let (code, advice, error) = (error.code(), error.advice(), chain(error));
        tracing::error!(
            lender,
            subject,
            ?wait,
            %code,
            advice,
            "waiting for the schema registry: {error}"
        );
    };
    let retry = |_: &RegistryError| AfterTry::Retry { at_least: None };
    let schema_id = patience.retry(ask, retry, say).await?;
    Ok(Frame::Confluent { schema_id })
}
