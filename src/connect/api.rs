//! Who answers a request?

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::json;

use super::connectors::{CLASS, Connectors, VERSION};
use super::reply::Reply;
use super::route::Resource;
use crate::http::{Api, ApiRequest};

/// As Connect says it where it is not known.
const COMMIT: &str = match option_env!("D02_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Whoever answers turns; `/livez` says more.
const HEALTHY: &str = "Worker has completed startup and is ready to handle requests.";

impl Connectors {
    async fn page(&self, request: &ApiRequest) -> Reply {
        let page = match Resource::of(&request.path) {
            Ok(page) => page,
            Err(answer) => return answer,
        };
        if let Err(answer) = page.check(&request.method) {
            return answer;
        }
        let mut query = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in form_urlencoded::parse(request.query.as_bytes()) {
            query.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        match page {
            Resource::Root => {
                let id = self.cluster_id().await;
                Reply::ok(json!({ "version": VERSION, "commit": COMMIT, "kafka_cluster_id": id }))
            }
            Resource::Health => Reply::ok(json!({ "status": "healthy", "message": HEALTHY })),
            Resource::Connectors => self.list(&query),
            Resource::Connector(connector, part) => self.part(&connector, part, &query).await,
            Resource::Plugins => Reply::ok(json!([{ "class": CLASS, "type": "source", "version": VERSION }])),
        }
    }
}

impl Api for Connectors {
    fn answer<'a>(
        &'a self,
        request: &'a ApiRequest,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send + 'a>> {
        Box::pin(async move { self.page(request).await.into_response() })
    }
}
