//! The parts of HTTP/1.1 that the server needs.

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use httparse::{Header, Status, EMPTY_HEADER};

/// The greatest length of a request's head, number of headers, and length of a body.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// The beginning of every answer.
pub(crate) const START: &str = "HTTP/1.1 ";

pub(crate) struct Request {
    pub(crate) method: String,
    /// The path and the query.
    pub(crate) target: String,
    pub(crate) id: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) body: Vec<u8>,
}

/// Parses the head of a request. Returns it with its length and that of the body, or `None` if it is
/// incomplete.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, Response> {
    let bad = |why: &dyn Display| Response::text(400, format_args!("bad request: {why}"));
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if bytes.len() <= MAX_HEAD => return Ok(None),
        Ok(_) => return Err(Response::text(431, "the head is too long")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::text(431, "too many headers"))
        }
        Err(httparse::Error::Version) if names_a_version(bytes) => {
            return Err(Response::text(505, "only HTTP/1.0 and 1.1"));
        }
        Err(err) => return Err(bad(&err)),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(bad(&"no request line"));
    };
    let headers = Headers(parsed.headers);
    if minor == 1 && headers.all("Host").count() != 1 {
        return Err(bad(&"exactly one header Host is needed"));
    }
    let body = body_length(&headers, minor)?;
    let timeout = match headers.all("X-Timeout").next().map(parse_timeout) {
        Some(None) => return Err(bad(&"X-Timeout")),
        timeout => timeout.flatten(),
    };
    let expects_continue = headers.all("Expect").next().is_some();
    if !headers
        .all("Expect")
        .all(|it| it.eq_ignore_ascii_case("100-continue"))
    {
        return Err(Response::text(417, "unknown expectation"));
    }
    let mut options = headers.all("Connection").flat_map(|it| it.split(','));
    let closes = options.any(|option| option.trim().eq_ignore_ascii_case("close"));
    let request = Request {
        method: method.into(),
        target: path_and_query(target).into(),
        id: headers
            .all("X-Request-Id")
            .find(|id| is_id(id))
            .map(String::from),
        timeout,
        keep_alive: minor == 1 && !closes,
        expects_continue: minor == 1 && expects_continue,
        body: Vec::new(),
    };
    Ok(Some((request, head, body)))
}

/// Returns the length of the body. Refuses anything ambiguous: what this server reads as a body, a
/// proxy in front of it could read as another request.
fn body_length(headers: &Headers<'_>, minor: u8) -> Result<usize, Response> {
    let lengths: Vec<_> = headers.all("Content-Length").collect();
    let codings: Vec<_> = headers.all("Transfer-Encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(0),
        ([length], []) if !length.is_empty() && length.bytes().all(|it| it.is_ascii_digit()) => {
            let length = length.parse().ok().filter(|&length| length <= MAX_BODY);
            length.ok_or_else(|| {
                Response::text(413, format_args!("the body exceeds {MAX_BODY} bytes"))
            })
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case("chunked") => {
            Err(Response::text(411, "a Content-Length is needed"))
        }
        ([], _) if minor == 1 => Err(Response::text(501, "unknown transfer coding")),
        _ => Err(Response::text(
            400,
            "bad request: ambiguous length of the body",
        )),
    }
}

/// Returns whether the request line ends with a version of HTTP, supported or not.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\r' || byte == b'\n')
        .find(|line| !line.is_empty());
    let version = line.and_then(|line| line.rsplit(|&byte| byte == b' ').next());
    matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Strips the scheme and host, which a client may put in front of the path.
fn path_and_query(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    }
}

fn is_id(id: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&id.len()) && id.bytes().all(is_fine)
}

/// Parses a time in the format of gRPC: at most eight digits and a unit.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|it: char| !it.is_ascii_digit());
    let unit = &text[digits.len()..];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Formats a time in the format of gRPC, in the smallest unit possible, rounded down.
pub(crate) fn format_timeout(timeout: Duration) -> String {
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (timeout.as_secs().into(), 'S'),
    ];
    let fitting = units.into_iter().find(|(number, _)| *number < 100_000_000);
    let (number, unit) = fitting.unwrap_or((99_999_999, 'S'));
    format!("{number}{unit}")
}

pub(crate) fn parameter(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}

struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// Returns all values of a header. One that is not UTF-8 is returned as empty.
    fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        let found = self
            .0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| std::str::from_utf8(header.value).unwrap_or(""))
    }
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
}

impl Response {
    pub(crate) fn new(status: u16, body: Vec<u8>) -> Response {
        Response {
            status,
            body,
            headers: Vec::new(),
        }
    }

    pub(crate) fn text(status: u16, text: impl Display) -> Response {
        let response = Response::new(status, format!("{text}\n").into());
        response.with("Content-Type", "text/plain; charset=utf-8")
    }

    pub(crate) fn unavailable(why: impl Display) -> Response {
        Response::text(503, why).with("Retry-After", "1")
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the bytes to send. `close` announces that it is the last answer on its connection.
    pub(crate) fn bytes(&self, close: bool, request: Option<&Request>) -> Vec<u8> {
        let (status, reason) = (self.status, reason(self.status));
        let date = httpdate::fmt_http_date(SystemTime::now());
        let length = self.body.len();
        let mut head =
            format!("{START}{status} {reason}\r\nDate: {date}\r\nContent-Length: {length}\r\n");
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if request.map_or(true, |request| request.method != "HEAD") {
            bytes.extend(&self.body);
        }
        bytes
    }
}

/// The form for the log.
impl Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.body);
        write!(f, "{} {}", self.status, text.trim_end())
    }
}

/// Parses an answer of the upstream server. Returns `None` if it is incomplete or invalid.
pub(crate) fn parse_answer(bytes: &[u8]) -> Option<Response> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let Ok(Status::Complete(head)) = parsed.parse(bytes) else {
        return None;
    };
    let headers = Headers(parsed.headers);
    let length = headers.all("Content-Length").next()?.parse().ok();
    let body = bytes[head..].to_vec();
    let status = parsed.code.filter(|code| (200..600).contains(code))?;
    (length == Some(body.len())).then(|| Response::new(status, body))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
