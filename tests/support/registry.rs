//! The registry as a test sees it, and a door before it that is closed at first, counts who asks what, and can refuse.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use d02_source::simulator::Certified;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_native_tls::TlsAcceptor;

use super::{RUNTIME, testbed};

/// No status of HTTP's.
const NEVER: u16 = 0;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Asks the registry itself; status and body, null if that is no JSON.
pub(crate) fn ask(method: &str, path: &str, body: &str) -> (u16, Value) {
    let method = method.parse().expect("a method");
    let url = format!("{}{path}", testbed().schema_registry_url());
    let request = reqwest::Client::new()
        .request(method, url)
        .header("content-type", CONTENT_TYPE);
    RUNTIME.block_on(async {
        let answer = request.body(body.to_owned()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    })
}

/// Registers `schema` as somebody else would; gives its id.
#[track_caller]
pub(crate) fn register(subject: &str, schema: &str) -> u32 {
    let body = serde_json::json!({ "schema": schema }).to_string();
    let (status, answer) = ask("POST", &format!("/subjects/{subject}/versions"), &body);
    assert_eq!(status, 200, "{answer}");
    answer["id"]
        .as_u64()
        .and_then(|id| u32::try_from(id).ok())
        .expect("an id")
}

#[track_caller]
pub(crate) fn set_compatibility(subject: &str, level: &str) {
    let body = serde_json::json!({ "compatibility": level }).to_string();
    let (status, answer) = ask("PUT", &format!("/config/{subject}"), &body);
    assert_eq!(status, 200, "{answer}");
}

/// The level of a subject that was given one.
pub(crate) fn compatibility(subject: &str) -> Value {
    ask("GET", &format!("/config/{subject}"), "").1["compatibilityLevel"].clone()
}

/// The versions of a subject; none where there is no such subject.
pub(crate) fn versions(subject: &str) -> Vec<i64> {
    let (status, answer) = ask("GET", &format!("/subjects/{subject}/versions"), "");
    match status {
        200 => serde_json::from_value(answer).expect("numbers"),
        _ => Vec::new(),
    }
}

/// A port before the registry. Nobody listens on it until it is opened.
pub(crate) struct Door {
    socket: Mutex<Option<TcpSocket>>,
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    refused: Refused,
    guard: Option<Arc<Guard>>,
}

/// Who is let in, and how it is shown who we are.
struct Guard {
    acceptor: TlsAcceptor,
    /// The header `authorization`.
    authorization: Mutex<String>,
}

/// Requests that begin so are answered with this status; with [`NEVER`], not at all.
type Refused = Arc<Mutex<Option<(String, u16)>>>;

impl Door {
    pub(crate) fn closed() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let address = socket.local_addr().expect("an address");
        Self {
            socket: Mutex::new(Some(socket)),
            address,
            heard: Arc::default(),
            refused: Arc::default(),
            guard: None,
        }
    }

    /// Open over TLS to whoever sends this header `authorization`.
    pub(crate) fn guarded(certified: &Certified, authorization: &str) -> Self {
        let guard = Guard {
            acceptor: certified.acceptor().expect("an acceptor"),
            authorization: Mutex::new(authorization.to_owned()),
        };
        let door = Self {
            guard: Some(Arc::new(guard)),
            ..Self::closed()
        };
        door.open();
        door
    }

    /// From now on, whoever sends this one.
    pub(crate) fn let_in(&self, authorization: &str) {
        let guard = self.guard.as_ref().expect("a guard");
        authorization.clone_into(&mut guard.authorization.lock().expect("who is let in"));
    }

    /// Open, but requests that begin with `begin` (`PUT /`) are answered with `status`.
    pub(crate) fn refusing(begin: &str, status: u16) -> Self {
        let door = Self::closed();
        *door.refused.lock().expect("what is refused") = Some((begin.to_owned(), status));
        door.open();
        door
    }

    /// Open, but requests that begin with `begin` get no answer.
    pub(crate) fn silent_at(begin: &str) -> Self {
        Self::refusing(begin, NEVER)
    }

    /// Refuses nothing any more.
    pub(crate) fn admit(&self) {
        *self.refused.lock().expect("what is refused") = None;
    }

    pub(crate) fn url(&self) -> String {
        let registry = testbed().schema_registry_url();
        let path = registry.splitn(4, '/').nth(3).unwrap_or_default();
        let scheme = if self.guard.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{path}", self.address)
    }

    pub(crate) fn open(&self) {
        let socket = self.socket.lock().expect("the socket").take().expect("still closed");
        let (heard, refused, guard) = (Arc::clone(&self.heard), Arc::clone(&self.refused), self.guard.clone());
        RUNTIME.spawn(async move {
            let listener = socket.listen(64).expect("listening");
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, refused, guard) = (Arc::clone(&heard), Arc::clone(&refused), guard.clone());
                tokio::spawn(async move {
                    match &guard {
                        None => pass(stream, heard, refused, None).await,
                        // Whoever does not trust us goes away.
                        Some(guard) => {
                            if let Ok(stream) = guard.acceptor.accept(stream).await {
                                pass(stream, heard, refused, Some(guard)).await;
                            }
                        }
                    }
                });
            }
        });
    }

    /// Methods and paths of all requests so far, below the registry's own path.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("the requests").clone()
    }

    /// Those that would change something in the registry.
    pub(crate) fn writes(&self) -> Vec<String> {
        let writes = |request: &String| {
            request.starts_with("PUT ") || request.starts_with("POST /subjects/") && request.ends_with("/versions")
        };
        self.heard().into_iter().filter(writes).collect()
    }
}

/// One request, then the connection is closed: so that none passes unseen.
async fn pass(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    heard: Arc<Mutex<Vec<String>>>,
    refused: Refused,
    guard: Option<&Guard>,
) {
    let mut request = Vec::new();
    let head_end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        // A client that goes away asked nothing.
        let Ok(1..) = client.read_buf(&mut request).await else {
            return;
        };
    };
    let registry = testbed().schema_registry_url();
    let mut parts = registry.trim_start_matches("http://").splitn(2, '/');
    let (address, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let head = String::from_utf8_lossy(&request[..head_end]).into_owned();
    let (first, others) = head.split_once("\r\n").unwrap_or((&head, ""));
    let length = others.to_lowercase().lines().find_map(|line| {
        let length = line.strip_prefix("content-length:")?;
        length.trim().parse::<usize>().ok()
    });
    while request.len() < head_end + 4 + length.unwrap_or_default() {
        let Ok(1..) = client.read_buf(&mut request).await else {
            return;
        };
    }
    let line = first
        .trim_end_matches(" HTTP/1.1")
        .replacen(&format!(" /{path}"), " ", 1);
    let refused = refused.lock().expect("what is refused").clone();
    let is_refused = refused.filter(|(begin, _)| line.starts_with(begin.as_str()));
    let is_let_in = guard.is_none_or(|guard| {
        let wanted = guard.authorization.lock().expect("who is let in");
        let header = |line: &str| {
            line.split_once(": ")
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        };
        let mut headers = others.lines().filter_map(header);
        headers.any(|(name, value)| name == "authorization" && value == *wanted)
    });
    let status = if is_let_in {
        is_refused.map(|(_, status)| status)
    } else {
        Some(401)
    };
    heard.lock().expect("the requests").push(line);
    if status == Some(NEVER) {
        // Until the client goes away.
        let _ = client.read_buf(&mut Vec::new()).await;
        return;
    }
    if let Some(status) = status {
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // Whoever does not wait for it does not need it.
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    let mut server = TcpStream::connect(address).await.expect("the registry");
    let head = format!("{first}\r\nconnection: close\r\n{others}");
    let rest = request.split_off(head_end);
    if server.write_all(&[head.as_bytes(), &rest].concat()).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
