//! How does a person get an Exports API on a local port?

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::command::print::print_line;
use crate::exit::{Diagnosis, ErrorCode, ProcessError};
use crate::http::reachable;
use crate::simulator::{
    DEFAULT_BY, Effect, Fault, Handle, LenderOptions, MAX_SHIFT, Options, ScriptError, Simulator, StartError, Total,
    ca_file, is_member, parse_script,
};

const EXAMPLE: &str = r#"Example: 100,000 rows with groups of up to 1,500 equal timestamps, 50 changes a second, new accounts and deletions, some odd and bad rows

  d02-source simulate --port 8099 --rows 100000 --tie-group 1,5,1500 --change-rate 50 --insert-rate 3 --delete-rate 1 --odd-rate 0.01 --bad-rate 0.001

An upstream that is hard to read: one request in fifty fails, changes become visible up to ten seconds late, some are dated ahead, and its clock is slow

  d02-source simulate --port 8099 --rows 100000 --change-rate 50 --fault-rate 0.02 --late-rate 5 --late-by 10s --ahead-rate 1 --clock-skew -90s

Over https, for other machines that know this one as "simulator":

  d02-source simulate --listen 0.0.0.0:8443 --tls ca --tls-name simulator

A fault script has a JSON object a line, met in this order by the requests that match; --fault takes one such object:

  {"effect":{"status":{"code":503,"retry_after":{"seconds":2}}},"cursor":true,"skip":3,"times":2}
  {"effect":{"hang":"30s"},"lender":"lender-2"}
  {"effect":"token_revoked"}
  {"effect":{"status":{"code":401}},"endpoint":"refresh"}
  {"effect":{"vanish":{"count":3}},"rate":0.05}
  {"effect":{"above_size":{"bytes":65536,"code":503}},"rate":1}

With a rate, each request that matches and that nothing before meets is met with this probability, for ever if "times" does not bound it; what is drawn follows from --seed and from the requests.

Effects: status, html, redirect (code, location), cut_off_json, wrong_top_level_types, wrong_content_type, reset, hang, slow_body, oversized_body; for exports only: error_in_200 (the page with another code, with errors), above_size (code instead of an answer of more bytes), not_utf8, not_a_number and raw_control (in the row of the account id), all of them best with a rate of 1; duplicate_page, page_out_of_order, bounds_not_echoed, cursor_answers_itself, empty_page_with_cursor, long_cursor (of so many bytes), token_revoked, all_cursors_dead; vanish (so many rows that the walk is still to read are deleted, those right behind the page); old_copy (the rows as they were at the start, or when a copy was kept); mixed.

The effect mixed, which is also that of --fault-rate, is one of those that a client gets over by asking again: 429 and 503 with and without Retry-After (1 s), 500, 502, 504, html, cut_off_json, wrong_top_level_types, wrong_content_type, reset, hang (1 s), slow_body (1 s), page_out_of_order, bounds_not_echoed, empty_page_with_cursor, token_revoked.

While it runs, it can be steered and looked into on the same port, under /simulator. That needs no token: whoever reaches the port can use it, which is this machine alone unless --listen says otherwise. Lenders go by their subdomain. Answers are JSON.

  curl localhost:8099/simulator/counts
  curl localhost:8099/simulator/lenders/lender-1/rows                          every row's id, updated_at and kind; ?offset=&limit=
  curl -X POST 'localhost:8099/simulator/lenders/lender-1/touch?count=100'     changes so many accounts, now; &seed= makes the choice repeatable
  curl -X POST 'localhost:8099/simulator/lenders/lender-1/insert?count=10'
  curl -X POST 'localhost:8099/simulator/lenders/lender-1/delete?count=10'     or ?id=
  curl -X POST 'localhost:8099/simulator/lenders/lender-1/late?count=10&by_ms=5000'    changes, visible up to so much after their updated_at
  curl -X POST 'localhost:8099/simulator/lenders/lender-1/ahead?count=10&by_ms=5000'   changes, with an updated_at so much ahead
  curl -X POST localhost:8099/simulator/lenders/lender-1/copy                  keeps a copy of the rows as they are, for the effect old_copy
  curl --data-binary @faults.jsonl localhost:8099/simulator/faults             adds a fault script
  curl -X DELETE localhost:8099/simulator/faults                               forgets what has not been met, and --fault-rate
  curl -X POST 'localhost:8099/simulator/latency?ms=100'
  curl -X POST 'localhost:8099/simulator/page-limit?most=100'                  504 for a larger limit; DELETE ends it
  curl -X POST 'localhost:8099/simulator/volatile?member=exported_at'          in every row, another value in each answer; DELETE ends all
  curl -X POST 'localhost:8099/simulator/total?as=capped:1000'                 or exact, timeout, off:N
  curl -X POST 'localhost:8099/simulator/clock?skew_ms=-90000'                 its clock minus this machine's
  curl -X POST 'localhost:8099/simulator/date?skew_ms=3600000'                 the header Date minus its clock"#;

/// Serves an Exports API on a local port: rows, live changes, faults
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Port on 127.0.0.1; 0: any free one
    #[arg(long, default_value_t = 0, conflicts_with = "listen")]
    port: u16,
    /// Address and port, instead of --port
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Number of lenders
    #[arg(long, default_value_t = 1)]
    lenders: u32,
    /// Rows of each lender
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=0x0100_0000))]
    rows: u32,
    /// All rows follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sizes of groups with one updated_at, repeated over the rows
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "1,1,1,3,1,1,10")]
    tie_group: Vec<u32>,
    /// Share of rows that are odd, but accounts
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    odd_rate: f64,
    /// Share of rows that are dead letters
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    bad_rate: f64,
    /// Accounts that change, a second, each lender
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    change_rate: f64,
    /// New accounts, a second, each lender
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    insert_rate: f64,
    /// Rows that vanish, a second, each lender
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    delete_rate: f64,
    /// Changes that become visible after their updated_at, a second, each lender; dropped if the account changes before
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    late_rate: f64,
    /// They become visible after a random time of up to so much
    #[arg(long, value_name = "TIME", default_value_t = DEFAULT_BY.into(), requires = "late_rate", value_parser = shift)]
    late_by: humantime::Duration,
    /// Changes whose updated_at lies ahead, a second, each lender; such an account is not changed again before that time
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    ahead_rate: f64,
    /// It lies ahead by so much
    #[arg(long, value_name = "TIME", default_value_t = DEFAULT_BY.into(), requires = "ahead_rate", value_parser = shift)]
    ahead_by: humantime::Duration,
    /// How long a token is good
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    token_lifetime: Duration,
    /// Wait before each answer
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// How far its clock is ahead of this machine's; -90s: behind it
    #[arg(long, value_name = "TIME", default_value = "0s", allow_hyphen_values = true, value_parser = skew_ms)]
    clock_skew: i64,
    /// A member that every row has beside those of D02, with another value in each answer; repeatable
    #[arg(long, value_name = "NAME", value_parser = member)]
    volatile_member: Vec<String>,
    /// How far the header Date is ahead of its clock, which rows and tokens go by; -90s: behind it
    #[arg(long, value_name = "TIME", default_value = "0s", allow_hyphen_values = true, value_parser = skew_ms)]
    date_skew: i64,
    /// Answers 504 to a larger limit
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u16).range(1..=1000))]
    page_limit: Option<u16>,
    /// How includeTotal is answered: exact, timeout, capped:N, or off:N (N more than there are, called exact)
    #[arg(long, default_value_t = Total::Exact)]
    total: Total,
    /// Compresses for clients that accept gzip
    #[arg(long)]
    gzip: bool,
    /// Serves https; writes the fresh CA's certificate into this directory
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// DNS name that the certificate has beside localhost; repeatable, the first one stands in the printed base_url
    #[arg(long, value_name = "NAME", requires = "tls", value_parser = dns_name)]
    tls_name: Vec<String>,
    /// Starts nothing: asks the simulator at this address, and with this --tls, whether it answers. Exits with 0 or 1
    #[arg(long)]
    health_check: bool,
    /// A fault, as a line of a fault script, see below; met after those of --fault-script; repeatable
    #[arg(long, value_name = "JSON", value_parser = fault)]
    fault: Vec<Fault>,
    /// JSON lines, see below
    #[arg(long, value_name = "FILE")]
    fault_script: Option<PathBuf>,
    /// Share of export requests that meet a mixed fault, after what the fault script has in order; see below
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fault_rate: f64,
}

/// For the answer to a health check, which comes at once from a simulator that is well.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why `simulate` ends early.
#[derive(Debug, Error)]
pub enum SimulateError {
    #[error("cannot read the CA of the simulator, {}", path.display())]
    ReadCa { path: PathBuf, source: io::Error },
    #[error("no simulator answers")]
    NoAnswer(#[source] reqwest::Error),
    #[error("cannot read the fault script {}", path.display())]
    ReadScript { path: PathBuf, source: io::Error },
    #[error("cannot use the fault script")]
    Script(#[from] ScriptError),
    #[error("cannot start the simulator")]
    Start(#[from] StartError),
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] ProcessError),
}

impl Diagnosis for SimulateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::ReadCa { .. } | Self::NoAnswer(_) => ErrorCode::B01,
            Self::ReadScript { .. } | Self::Script(_) | Self::Start(_) | Self::Signals(_) => ErrorCode::B02,
            Self::Output(error) => error.code(),
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::ReadCa { .. } => "give it the same --tls as the simulator that is asked",
            Self::NoAnswer(_) => "see whether it runs, and give the same --port or --listen, and --tls",
            Self::ReadScript { .. } => "correct the path of --fault-script, or let this user read the file",
            Self::Script(_) => "correct that line; --help says what a script may hold",
            Self::Start(_) => "choose a port that is free, and a directory for --tls that can be written",
            Self::Signals(_) => "look at this machine's limits",
            Self::Output(error) => error.advice(),
        }
    }
}

/// Serves until Ctrl-C or SIGTERM; prints what goes into the source's configuration.
pub async fn execute(args: Args) -> Result<(), SimulateError> {
    if args.health_check {
        return health_check(&args).await;
    }
    let mut faults = match &args.fault_script {
        Some(path) => {
            let script = fs::read_to_string(path).map_err(|source| SimulateError::ReadScript {
                path: path.clone(),
                source,
            })?;
            parse_script(&script)?
        }
        None => Vec::new(),
    };
    faults.extend(args.fault.iter().cloned());
    if args.fault_rate > 0.0 {
        faults.push(Fault::export(Effect::Mixed).rate(args.fault_rate));
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(SimulateError::Signals)?;
    let simulator = Simulator::start(options(args)).await?;
    if faults.iter().any(|fault| matches!(fault.effect, Effect::OldCopy)) {
        (0..simulator.lender_count()).for_each(|lender| simulator.keep_copy(lender));
    }
    for fault in faults {
        simulator.push_fault(fault);
    }
    print_line!("{}", snippet(&simulator))?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(SimulateError::Signals),
        _ = terminate.recv() => Ok(()),
    }
}

/// Any answer is a good one. With https it proves also that the CA in the directory is that of the running simulator.
async fn health_check(args: &Args) -> Result<(), SimulateError> {
    let mut client = reqwest::Client::builder().no_proxy().timeout(HEALTH_CHECK_TIMEOUT);
    let scheme = if let Some(dir) = &args.tls {
        let path = ca_file(dir);
        let pem = fs::read(&path).map_err(|source| SimulateError::ReadCa { path, source })?;
        let ca = reqwest::Certificate::from_pem(&pem).map_err(SimulateError::NoAnswer)?;
        client = client.tls_certs_only([ca]);
        "https"
    } else {
        "http"
    };
    let client = client.build().map_err(SimulateError::NoAnswer)?;
    let url = format!("{scheme}://{}", reachable(listen(args)));
    client.get(url).send().await.map_err(SimulateError::NoAnswer)?;
    Ok(())
}

fn listen(args: &Args) -> SocketAddr {
    args.listen
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)))
}

fn options(args: Args) -> Options {
    let lenders = (1..=args.lenders)
        .map(|number| LenderOptions {
            rows: args.rows,
            tie_groups: args.tie_group.clone(),
            odd_rate: args.odd_rate,
            bad_rate: args.bad_rate,
            change_rate: args.change_rate,
            insert_rate: args.insert_rate,
            delete_rate: args.delete_rate,
            late_rate: args.late_rate,
            late_by: args.late_by.into(),
            ahead_rate: args.ahead_rate,
            ahead_by: args.ahead_by.into(),
            ..LenderOptions::numbered(number)
        })
        .collect();
    Options {
        listen: listen(&args),
        lenders,
        seed: args.seed,
        token_lifetime: args.token_lifetime,
        gzip: args.gzip,
        tls: args.tls,
        tls_names: args.tls_name,
        total: args.total,
        page_limit: args.page_limit.map(usize::from),
        clock_skew_ms: args.clock_skew,
        date_skew_ms: args.date_skew,
        latency: args.latency,
        volatile_members: args.volatile_member,
        ..Options::default()
    }
}

/// The part of a configuration that points the source at this simulator.
fn snippet(simulator: &Handle) -> String {
    let mut text = format!("[upstream]\nbase_url = \"{}\"\n", simulator.base_url());
    if let Some(ca_file) = simulator.ca_file() {
        // A literal string: a path may hold backslashes.
        writeln!(text, "ca_file = '{}'", ca_file.display()).expect("a string takes everything");
    }
    for lender in (0..simulator.lender_count()).map(|number| simulator.lender(number)) {
        write!(
            text,
            "\n[lenders.{0}]\nsubdomain = \"{0}\"\npublic_id = \"{1}\"\nemail = \"{2}\"\npassword = \"{3}\"\n",
            lender.subdomain, lender.public_id, lender.email, lender.password
        )
        .expect("a string takes everything");
    }
    text
}

/// Letters, digits, hyphens and dots: what stands in a URL and in a certificate alike.
fn dns_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= 253 && text.split('.').all(is_label))
        .then(|| text.to_owned())
        .ok_or_else(|| "not a DNS name".to_owned())
}

fn fault(text: &str) -> Result<Fault, String> {
    let mut faults = parse_script(text).map_err(|error| error.source.to_string())?;
    faults.pop().ok_or_else(|| "a line of a fault script".to_owned())
}

fn member(text: &str) -> Result<String, String> {
    is_member(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "1 to 100 letters, digits and underscores; an example is exported_at".to_owned())
}

/// A length of time that a clock or a row may be moved by.
fn shift(text: &str) -> Result<humantime::Duration, String> {
    let shift: humantime::Duration = text.parse().map_err(|error| format!("{error}; an example is 90s"))?;
    (*shift <= MAX_SHIFT)
        .then_some(shift)
        .ok_or_else(|| "more than a hundred years".to_owned())
}

/// In milliseconds; to either side.
fn skew_ms(text: &str) -> Result<i64, String> {
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    let skew_ms = shift(length)?.as_millis();
    Ok(sign * i64::try_from(skew_ms).expect("a hundred years fit"))
}

fn share(text: &str) -> Result<f64, String> {
    rate(text).and_then(|share| {
        (share <= 1.0)
            .then_some(share)
            .ok_or_else(|| "a share is between 0 and 1".to_owned())
    })
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|rate| rate.is_finite() && *rate >= 0.0)
        .ok_or_else(|| "not a number from 0 on".to_owned())
}
