//! Who looks at every lender of a configuration? One after another: the memory is that of the largest.

use std::sync::Arc;
use std::time::Duration;

use super::found::{Findings, Report};
use super::looks::Looking;
use super::rows::UpstreamRows;
use crate::config::Config;
use crate::exit::Failure;
use crate::kafka::Cluster;
use crate::login;
use crate::metrics::Metrics;
use crate::progress_bar;
use crate::sink::{Topics, UsableTopic, ready_topics};
use crate::upstream::Transport;

/// What is found of each lender of the configuration; `limit`: how many accounts are listed of each kind;
/// `patience`: with an upstream that brings nothing.
///
/// # Errors
/// When nothing can be compared: the topics cannot be used. What keeps one lender from it stands in its report.
pub(crate) async fn reports(config: &Config, limit: usize, patience: Duration) -> Result<Vec<Report>, Failure> {
    let http = login::transport(config)?;
    let cluster = Cluster::new(config);
    let checked = ready_topics(&cluster, config, false).await?;
    let verifier = Verifier {
        config,
        http,
        cluster,
        checked,
        metrics: Metrics::new(),
        limit,
        patience,
    };
    let mut reports = Vec::new();
    for lender in config.lenders.keys() {
        let found = verifier.verify(lender).await;
        if let Err(failure) = &found {
            eprintln!("error: {lender}: {failure}");
        }
        reports.push(Report {
            lender: lender.clone(),
            found,
        });
    }
    Ok(reports)
}

/// What the lenders share.
struct Verifier<'a> {
    config: &'a Config,
    http: Arc<dyn Transport>,
    cluster: Cluster,
    checked: Vec<UsableTopic>,
    metrics: Metrics,
    limit: usize,
    patience: Duration,
}

impl Verifier<'_> {
    async fn verify(&self, lender: &str) -> Result<Findings, Failure> {
        let topics = Topics::of(&self.checked, &self.config.kafka, lender);
        let metrics = self.metrics.lender(lender);
        let (rows, login) = UpstreamRows::log_in(
            &self.http,
            self.config,
            lender,
            metrics.clone(),
            &topics.accounts,
            self.patience,
        )
        .await?;
        let bar = tokio::spawn(progress_bar::follow(lender.to_owned(), metrics));
        let looking = Looking {
            rows: &rows,
            config: self.config,
            lender,
            cluster: &self.cluster,
            topics: &topics,
        };
        let found = looking.run(login.clock, self.limit).await;
        bar.abort();
        found
    }
}
