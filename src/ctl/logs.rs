//! `logs`: what instances printed, and print.
//!
//! An agent is asked for page after page, each from where the last one ended. So `--follow` goes on over rotations,
//! restarts of the service, and another agent in the old one's place.

use super::picture::{self, node_of, silence};
use super::text::{listed, parse_duration};
use super::{Asked, Exit, Global};
use crate::api::client::ClientError;
use crate::api::wire::LogPage;
use futures_util::future::try_join_all;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

// `clusterctl logs`
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Instances, services, nodes or groups
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Go on showing what is printed until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Only what was printed since (10min, 2h, 3d; or a time: 07:30, "2026-03-01 07:30")
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Duration>,
    /// How many lines of each to show at most, the latest [default: 100, with --since all]
    #[arg(short = 'n', long = "last", value_name = "COUNT")]
    pub last: Option<usize>,
}

/// How many lines are shown unless said.
const LAST: usize = 100;
/// Between two looks with `--follow`.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
/// Until an agent that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub async fn run(args: LogsArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    let chosen = picture::select(&status, &args.names)?;
    let form = match (global.json, chosen.len()) {
        (true, _) => Form::Json,
        (false, 1) => Form::Plain,
        (false, _) => Form::Named,
    };
    let begin = beginning(&args);
    let readers =
        chosen.iter().map(|k| Reader { asked: &asked, name: k.name(), begin: &begin, next: None, form });
    if args.follow {
        try_join_all(readers.map(Reader::follow)).await?;
        return Ok(Exit::Done);
    }
    let mut unread: Vec<&str> = Vec::new();
    let mut told = None;
    for (known, reader) in chosen.iter().zip(readers) {
        let (name, node) = (known.name(), known.node());
        let failed = match &node.status {
            Some(_) => reader.read_all().await?.err().map(|e| {
                told = told.take().or(e.hint());
                e.to_string()
            }),
            None => Some(silence(node)),
        };
        if let Some(why) = failed {
            eprintln!("{name}: not read: {why}");
            unread.push(name);
        }
    }
    let Some(first) = unread.first() else { return Ok(Exit::Done) };
    let node = node_of(first);
    // The agent knows better where to read what it does not have.
    super::hint(&told.unwrap_or_else(|| {
        format!(
            "only {node} has the log of {}: see 'clusterctl status {node}', or read it there in /var/lib/clusterd/log",
            listed(&unread, 1)
        )
    }));
    Ok(Exit::Incomplete)
}

/// The query of the first page.
fn beginning(args: &LogsArgs) -> String {
    let last = args.last.or(args.since.is_none().then_some(LAST));
    let mut query = String::new();
    if let Some(ago) = args.since {
        let _ = write!(query, "&ago={}", ago.as_millis());
    }
    if let Some(last) = last {
        let _ = write!(query, "&last={last}");
    }
    query
}

/// How lines are shown.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// After the instance's name.
    Named,
    Json,
}

/// Reads one log.
struct Reader<'a> {
    asked: &'a Asked,
    name: &'a str,
    begin: &'a str,
    /// The position to read on from; `None` before the first page.
    next: Option<u64>,
    form: Form,
}

impl Reader<'_> {
    async fn page(&mut self, partial: bool) -> Result<LogPage, ClientError> {
        let from = self.next.map_or_else(|| self.begin.to_owned(), |at| format!("&at={at}"));
        let path = format!("/v1/logs?instance={}{from}&partial={}", self.name, u8::from(partial));
        let page: LogPage = self.asked.get_at(node_of(self.name), &path).await?;
        if let Some(lost) = self.next.and_then(|at| page.at.checked_sub(at)).filter(|lost| *lost > 0) {
            eprintln!(
                "{}: {lost} bytes are not kept any more (`[log]` of its unit says how many are)",
                self.name
            );
        }
        self.next = Some(page.next);
        Ok(page)
    }

    /// Shows all up to where the log ends now.
    async fn read_all(mut self) -> anyhow::Result<Result<(), ClientError>> {
        let mut until = None;
        loop {
            let page = match self.page(true).await {
                Ok(page) => page,
                Err(e) => return Ok(Err(e)),
            };
            self.show(&page.text)?;
            if page.text.is_empty() || page.next >= *until.get_or_insert(page.end) {
                return Ok(Ok(()));
            }
        }
    }

    /// Shows all, and what comes. Ends only when nobody reads it.
    async fn follow(mut self) -> anyhow::Result<()> {
        let mut silent = false;
        loop {
            match self.page(false).await {
                Ok(page) => {
                    if std::mem::take(&mut silent) {
                        eprintln!("{}: read again", self.name);
                    }
                    self.show(&page.text)?;
                    if page.text.is_empty() || page.next >= page.end {
                        tokio::time::sleep(FOLLOW_EVERY).await;
                    }
                }
                Err(e) => {
                    if !std::mem::replace(&mut silent, true) {
                        eprintln!("{}: {e}; it is tried again", self.name);
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    fn show(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let terminal = out.is_terminal();
        let shown: String = text.lines().map(|line| shown(self.form, self.name, line, terminal)).collect();
        out.write_all(shown.as_bytes())?;
        out.flush()
    }
}

fn shown(form: Form, name: &str, line: &str, terminal: bool) -> String {
    let line = match form {
        Form::Json => return format!("{}\n", serde_json::json!({ "instance": name, "line": line })),
        // What a service prints must not steer the operator's terminal.
        _ if terminal => tame(line),
        _ => line.to_owned(),
    };
    match form {
        Form::Named => format!("{name}: {line}\n"),
        _ => line + "\n",
    }
}

/// Control characters are shown by their code.
fn tame(line: &str) -> String {
    let mut tame = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\t' => tame.push(c),
            c if c.is_control() => tame.extend(c.escape_default()),
            c => tame.push(c),
        }
    }
    tame
}

/// `10min`, `2h`, `1d 6h`; or a time of day, or a day and a time, by the own clock. As how long ago that is.
pub fn parse_since(text: &str) -> Result<Duration, String> {
    since(text, &jiff::Zoned::now())
}

fn since(text: &str, now: &jiff::Zoned) -> Result<Duration, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(ago);
    }
    // A span can have the form of a time of day, which is meant then.
    let ago = if !text.contains(':')
        && let Ok(span) = text.parse::<jiff::Span>()
    {
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()
    } else {
        let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let local = text
                .parse()
                .or_else(|_| text.parse::<jiff::civil::Time>().map(|time| now.date().to_datetime(time)));
            Some(local.ok()?.to_zoned(now.time_zone().clone()).ok()?.timestamp())
        });
        at.map(|at| now.timestamp().duration_since(at))
    };
    let ago = ago.ok_or_else(|| {
        format!("'{text}' is no time: write 10min, 2h or 3d; 07:30, or \"2026-03-01 07:30\"")
    })?;
    Duration::try_from(ago).map_err(|_| format!("'{text}' has not come yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_while_or_a_time() {
        let noon: jiff::Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let now = noon.to_zoned(jiff::tz::TimeZone::UTC);
        let cases = [
            ("90s", 90),
            ("10", 10),
            ("2m", 120),
            ("10min", 600),
            ("2h", 7200),
            ("1d 6h", 30 * 3600),
            ("11:30", 1800),
            ("11:59:30", 30),
            ("2026-02-28 12:00", 86_400),
            ("2026-02-28", 86_400 + 43_200),
            ("2026-03-01T11:00:00Z", 3600),
        ];
        for (text, seconds) in cases {
            assert_eq!(since(text, &now), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(since("13:00", &now).unwrap_err().contains("not come yet"));
        for text in ["", "soon", "25:00"] {
            assert!(since(text, &now).unwrap_err().contains("is no time"), "{text}");
        }
    }

    #[test]
    fn lines_are_plain_named_or_json() {
        let line = "\x1b[31mred\t\u{7}";
        assert_eq!(shown(Form::Plain, "x@n", line, false), format!("{line}\n"));
        assert_eq!(shown(Form::Named, "x@n", line, true), "x@n: \\u{1b}[31mred\t\\u{7}\n");
        assert_eq!(
            shown(Form::Json, "x@n", "a \"b\"", true),
            "{\"instance\":\"x@n\",\"line\":\"a \\\"b\\\"\"}\n"
        );
    }

    #[test]
    fn without_a_time_the_last_lines_are_meant() {
        let args = |since, last| LogsArgs { names: vec![], follow: false, since, last };
        assert_eq!(beginning(&args(None, None)), "&last=100");
        assert_eq!(beginning(&args(Some(Duration::from_secs(60)), None)), "&ago=60000");
        assert_eq!(beginning(&args(Some(Duration::from_secs(60)), Some(5))), "&ago=60000&last=5");
    }
}
