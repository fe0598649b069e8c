//! activemq.xml of brokers that share a store: read and judged side by side. Pure.
//!
//! What is judged is the lease in a database (`lease-database-locker`), by which one broker serves and the others stand
//! by. It goes by the broker's name, by its length beside how often it is renewed, and by the machines' clocks; each of
//! these lets two brokers serve at a time when it is wrong. A lock on a file (KahaDB) knows none of these.

use crate::director::import::{Finding, MAX_FILE};
use roxmltree::{Attribute, Document, Node, ParsingOptions};

/// The most elements, attributes' texts and comments of a file.
const MAX_NODES: u32 = 100_000;
/// The most that is said of all files.
const MAX_FINDINGS: usize = 200;

/// What ActiveMQ takes where nothing is written: a name, and milliseconds.
const NAME: &str = "localhost";
const LEASE: u64 = 10_000;
const KEEP_ALIVE: u64 = 30_000;

/// A broker that takes a lease, as far as its file says.
struct Leased {
    file: String,
    line: u32,
    /// By what the lease knows it. `None`: a placeholder stands there.
    holder: Option<String>,
    /// Milliseconds, and the line.
    lease: Option<(u64, u32)>,
}

/// Judges the files of brokers that share a store; each with its name. Findings in the order of files and lines.
pub fn judge(files: &[(String, Vec<u8>)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut leased: Vec<Leased> = Vec::new();
    for (name, bytes) in files {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_FILE)]);
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        match Document::parse_with_options(&text, options) {
            Ok(document) => File { name, document: &document, findings: &mut findings }.judge(&mut leased),
            Err(error) => {
                let why = format!("this is no XML: {}", shown(&error.to_string()));
                findings.push(Finding::error(
                    name,
                    error.pos().row,
                    why,
                    "write it as activemq.xml is written",
                ));
            }
        }
    }
    across(&leased, &mut findings);
    let place = |name: &str| files.iter().position(|(file, _)| file == name);
    findings.sort_by(|a, b| (place(&a.file), a.line, a).cmp(&(place(&b.file), b.line, b)));
    findings.truncate(MAX_FINDINGS);
    findings
}

struct File<'a, 'd> {
    name: &'a str,
    document: &'a Document<'d>,
    findings: &'a mut Vec<Finding>,
}

impl File<'_, '_> {
    fn judge(mut self, leased: &mut Vec<Leased>) {
        let document = self.document;
        let mut brokers = 0;
        for broker in document.descendants().filter(|node| node.tag_name().name() == "broker") {
            brokers += 1;
            for store in broker.descendants().filter(Node::is_element) {
                self.lock_of(store);
                if store.tag_name().name() == "lease-database-locker" {
                    leased.push(self.lease(broker, store));
                }
            }
        }
        if brokers == 0 {
            let hint = "name the file that the broker is started with: xbean:file:/…/activemq.xml";
            self.findings.push(Finding::error(self.name, 1, "there is no broker in this file", hint));
        }
    }

    /// A store that is opened without any lock.
    fn lock_of(&mut self, store: Node<'_, '_>) {
        for attribute in store.attributes() {
            if matches!(attribute.name(), "useLock" | "useDatabaseLock") && attribute.value() == "false" {
                let why = "this broker takes no lock on its store: a second one serves beside it";
                let hint = format!("take out {}=\"false\"", attribute.name());
                self.findings.push(Finding::error(self.name, self.line(&attribute), why, hint));
            }
        }
    }

    fn lease(&mut self, broker: Node<'_, '_>, locker: Node<'_, '_>) -> Leased {
        let line = self.document.text_pos_at(broker.range().start).row;
        let at = self.document.text_pos_at(locker.range().start).row;
        let named = locker.attribute("leaseHolderId").or(broker.attribute("brokerName"));
        if named.is_none() {
            let why = format!(
                "this broker has no name, so it is \"{NAME}\": any other without one takes the same lease"
            );
            self.findings.push(Finding::warning(
                self.name,
                line,
                why,
                "write brokerName=\"mq1\", another one for each",
            ));
        }
        let adapter = locker.ancestors().find(|node| node.has_attribute("lockKeepAlivePeriod"));
        let lease = self.milliseconds(locker, "lockAcquireSleepInterval", LEASE, at);
        let keep_alive = match adapter {
            Some(adapter) => self.milliseconds(adapter, "lockKeepAlivePeriod", KEEP_ALIVE, at),
            None => Some((KEEP_ALIVE, at, true)),
        };
        if let (Some((lease, at, lease_default)), Some((keep_alive, _, keep_default))) = (lease, keep_alive) {
            let told =
                |ms: u64, default| format!("{}{}", seconds(ms), if default { " (the default)" } else { "" });
            let (lasts, renewed) = (told(lease, lease_default), told(keep_alive, keep_default));
            let hint = format!("write lockKeepAlivePeriod=\"{}\" into its jdbcPersistenceAdapter", lease / 2);
            if keep_alive >= lease {
                let why = format!(
                    "the lease lasts {lasts} and is renewed every {renewed}: it runs out in between, and another \
                     broker serves beside this one"
                );
                self.findings.push(Finding::error(self.name, at, why, hint));
            } else if keep_alive > lease / 2 {
                let why = format!(
                    "the lease lasts {lasts} and is renewed every {renewed}: one late renewal loses it"
                );
                self.findings.push(Finding::warning(self.name, at, why, hint));
            }
        }
        let corrects = locker.attribute("maxAllowableDiffFromDBTime").is_some_and(|most| most.trim() != "0");
        if !corrects {
            let why = "the lease goes by this machine's clock: one that is ahead takes it while the other still serves";
            let hint = "write maxAllowableDiffFromDBTime=\"1000\" into its lease-database-locker, so that a clock that is \
                        off is corrected by the database's; and keep the clocks in step (chrony)";
            self.findings.push(Finding::warning(self.name, at, why, hint));
        }
        let holder = named.unwrap_or(NAME);
        Leased {
            file: self.name.to_owned(),
            line,
            holder: (!is_filled_in(holder)).then(|| holder.to_owned()),
            lease: lease.map(|(ms, line, _)| (ms, line)),
        }
    }

    /// An attribute in milliseconds, its line, and whether it is the default. `None`: it is not known from the file.
    fn milliseconds(
        &mut self,
        node: Node<'_, '_>,
        name: &str,
        default: u64,
        line: u32,
    ) -> Option<(u64, u32, bool)> {
        let Some(attribute) = node.attributes().find(|attribute| attribute.name() == name) else {
            return Some((default, line, true));
        };
        let (text, line) = (attribute.value().trim(), self.line(&attribute));
        if is_filled_in(text) {
            return None;
        }
        match text.parse() {
            Ok(ms) => Some((ms, line, false)),
            Err(_) => {
                let text = shown(text);
                let why = format!("{name} is \"{text}\", which is no number of milliseconds");
                self.findings.push(Finding::error(
                    self.name,
                    line,
                    why,
                    format!("write {name}=\"{default}\""),
                ));
                None
            }
        }
    }

    fn line(&self, attribute: &Attribute<'_, '_>) -> u32 {
        self.document.text_pos_at(attribute.range().start).row
    }
}

/// Whether Spring puts something there when the broker starts.
fn is_filled_in(text: &str) -> bool {
    text.contains("${") || text.contains("#{")
}

fn across(leased: &[Leased], findings: &mut Vec<Finding>) {
    for (at, one) in leased.iter().enumerate() {
        let before = &leased[..at];
        if let Some(other) = before.iter().find(|other| one.holder.is_some() && other.holder == one.holder) {
            let name = shown(one.holder.as_deref().unwrap_or_default());
            let why = format!(
                "this broker is \"{name}\", as the one in {} is, and the lease goes by the name: both take it, and both \
                 serve",
                other.file
            );
            let hint = "write a brokerName of its own for each";
            findings.push(Finding::error(&one.file, one.line, why, hint));
        }
        let (Some((lease, line)), Some((other, first))) =
            (one.lease, before.iter().find_map(|o| Some((o.lease?.0, o))))
        else {
            continue;
        };
        if lease != other {
            let why = format!(
                "the lease lasts {} here and {} in {}: a takeover takes longer one way than the other",
                seconds(lease),
                seconds(other),
                first.file
            );
            let hint = format!("write lockAcquireSleepInterval=\"{other}\" in both");
            findings.push(Finding::warning(&one.file, line, why, hint));
        }
    }
}

/// `10 s`, `1500 ms`.
fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

/// A text of the file, for a sentence.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(100).collect()
}
