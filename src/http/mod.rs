//! What do a supervisor and Prometheus see of this process? Health and metrics, over HTTP/1.
//!
//! | Path | Answer |
//! |---|---|
//! | `/livez` | whether the loops of the process turn |
//! | `/readyz` | whether every lender makes progress |
//! | `/metrics` | what is counted |
//!
//! Whoever reaches the port may do no more than look, and not for long: a connection carries one request without a body, and
//! ends within seconds.

mod health;
mod server;
mod site;

pub(crate) use health::{Health, Standing};
pub(crate) use server::{Server, reachable};
pub(crate) use site::Site;
