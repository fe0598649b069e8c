//! `needs.X = …`: the short forms and the table.

use super::cluster_file::checked_name;
use super::diag::{Problem, Span};
use super::fields::{Fields, Value};
use super::words::nearest;
use super::{AfterWait, Count, NodeIx, OnLoss, Wait};
use crate::facts::Role;
use std::borrow::Cow;
use std::time::Duration;

/// How long a loss may last before `on-loss` acts, unless said.
pub(super) const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// The largest number that a count may name.
const MAX_COUNT: u32 = 100_000;
const FORMS: &str = "write \"all\", \"any\", \"quorum\", \"same-node\" or a number, and a role behind it if it matters: \"any writable\"";
const ROLES: [(&str, Role); 3] =
    [("writable", Role::Writable), ("master", Role::Master), ("replica", Role::Replica)];

/// One need as typed. `None` stands for what the file did not say.
#[derive(Clone)]
pub(super) struct NeedEntry<'a> {
    pub name: Cow<'a, str>,
    pub span: Span,
    /// Names of services, each with its place.
    pub targets: Vec<(Cow<'a, str>, Span)>,
    pub count: Option<Count>,
    /// Where the count stands, or the need itself.
    pub count_at: Span,
    pub role: Option<(Role, Span)>,
    /// A label of nodes.
    pub same: Option<(Cow<'a, str>, Span)>,
    pub wait: Option<Wait>,
    pub on_loss: Option<OnLoss>,
    pub by_agent: bool,
    pub nodes: Option<Vec<NodeIx>>,
}

impl<'a> NeedEntry<'a> {
    pub fn new(name: Cow<'a, str>, span: Span) -> NeedEntry<'a> {
        NeedEntry {
            targets: vec![(name.clone(), span)],
            name,
            span,
            count: None,
            count_at: span,
            role: None,
            same: None,
            wait: None,
            on_loss: None,
            by_agent: false,
            nodes: None,
        }
    }
}

/// `needs = { … }`, `needs.X = …`, or `needs = ["a", "b"]` for all of each.
pub(super) fn read_needs<'a>(value: Value<'a>) -> Vec<NeedEntry<'a>> {
    if value.raw().is_array() {
        let mut needs: Vec<NeedEntry<'a>> = Vec::new();
        for item in value.items() {
            let Some(name) = item.words() else { continue };
            if needs.iter().any(|n| n.name == name) {
                item.error(format!("\"{name}\" is needed twice"), "name each service once");
            } else {
                needs.push(NeedEntry::new(name, item.span()));
            }
        }
        return needs;
    }
    if value.raw().is_str() {
        value.error(
            "`needs` must name its services, not be a string",
            "write needs.mysql = \"any\", or needs = [\"mysql\", \"redis\"] for all of each",
        );
        return Vec::new();
    }
    let Some(fields) = value.table("`needs`") else { return Vec::new() };
    fields.rest().into_iter().filter_map(read_need).collect()
}

fn read_need<'a>(value: Value<'a>) -> Option<NeedEntry<'a>> {
    if !checked_name(&value, "need") {
        return None;
    }
    let mut need = NeedEntry::new(Cow::Borrowed(value.key), value.key_span);
    if value.raw().is_table() {
        let mut fields = value.table(format!("need `{}`", value.key))?;
        read_table(&mut fields, &mut need);
        fields.finish();
    } else {
        read_count(value, &mut need);
    }
    Some(need)
}

fn read_table<'a>(fields: &mut Fields<'a>, need: &mut NeedEntry<'a>) {
    if let Some(value) = fields.take("of") {
        need.targets = read_of(value);
    }
    if let Some(value) = fields.take("count") {
        read_count(value, need);
    }
    if let Some(value) = fields.take("role") {
        if let Some((_, first)) = need.role {
            let problem =
                Problem::new(value.span(), "the role is given twice").note(first, "here with the count");
            fields.reader.log.error(problem.hint("say it once"));
        }
        need.role = value.choice(&ROLES).map(|role| (role, value.span()));
    }
    need.same = fields.take("same").and_then(|value| value.words().map(|label| (label, value.span())));
    need.wait = read_wait(fields);
    need.on_loss = read_on_loss(fields);
    if let Some(value) = fields.take("proof") {
        need.by_agent = value.choice(&[("agent", true), ("probe", false)]).unwrap_or(false);
    }
}

fn read_of<'a>(value: Value<'a>) -> Vec<(Cow<'a, str>, Span)> {
    let items = if value.raw().is_str() { vec![value] } else { value.items() };
    if items.is_empty() && value.raw().is_array() {
        value.error(
            "`of` is an empty list",
            "name the services of which some must be ready: of = [\"redis\", \"keydb\"]",
        );
    }
    let mut targets: Vec<(Cow<'a, str>, Span)> = Vec::new();
    for item in items {
        let Some(name) = item.words() else { continue };
        if targets.iter().any(|(t, _)| *t == name) {
            item.error(
                format!("`of` names \"{name}\" twice"),
                "name each service once: its instances are counted once anyway",
            );
        } else {
            targets.push((name, item.span()));
        }
    }
    targets
}

/// `"any"`, `"2 replica"`, `2`.
pub(super) fn read_count<'a>(value: Value<'a>, need: &mut NeedEntry<'a>) {
    need.count_at = value.span();
    if let Some(integer) = value.raw().as_integer() {
        need.count = count_of(integer.as_str(), &value);
        return;
    }
    if !value.raw().is_str() {
        value.error(format!("`{}` must be a count", value.key), FORMS);
        return;
    }
    let Some(text) = value.text() else { return };
    let mut words = text.split_whitespace();
    let (first, second, third) = (words.next().unwrap_or(""), words.next(), words.next());
    need.count = match first {
        "all" => Some(Count::All),
        "any" => Some(Count::AtLeast(1)),
        "quorum" => Some(Count::Quorum),
        "same-node" => Some(Count::SameNode),
        _ if first.trim_start_matches('-').parse::<u64>().is_ok() => count_of(first, &value),
        _ => {
            let hint = if ROLES.iter().any(|(role, _)| *role == first) {
                format!("say how many too: \"any {first}\"")
            } else {
                match nearest(first, ["all", "any", "quorum", "same-node"]) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => FORMS.to_string(),
                }
            };
            value.error(format!("\"{text}\" is not a count"), hint);
            return;
        }
    };
    match second {
        None => {}
        Some(word) if third.is_none() => match ROLES.iter().find(|(role, _)| *role == word) {
            Some((_, role)) => need.role = Some((*role, value.span())),
            None => value.error(
                format!("there is no role \"{word}\""),
                match nearest(word, ROLES.map(|(role, _)| role)) {
                    Some(near) => format!("did you mean \"{first} {near}\"?"),
                    None => "the roles are \"writable\", \"master\" and \"replica\"".to_string(),
                },
            ),
        },
        Some(_) => value.error(format!("\"{text}\" has too many words"), FORMS),
    }
}

fn count_of(digits: &str, value: &Value<'_>) -> Option<Count> {
    match digits.parse::<u32>() {
        Ok(n) if (1..=MAX_COUNT).contains(&n) => Some(Count::AtLeast(n)),
        Ok(n) if n > 0 => {
            value.error(format!("{n} instances are more than a cluster can have"), FORMS);
            None
        }
        _ => {
            value.error(
                format!("a need of {digits} is met by nothing at all"),
                "write \"any\", or take the need out",
            );
            None
        }
    }
}

/// `wait` and `then` come together: whether to start without it or to give up is nothing to guess.
fn read_wait(fields: &mut Fields<'_>) -> Option<Wait> {
    let (wait, then) = (fields.take("wait"), fields.take("then"));
    match (wait, then) {
        (None, None) => None,
        (Some(wait), Some(then)) => {
            let at_most = wait.span_of_time();
            let then = then.choice(&[("start", AfterWait::Start), ("fail", AfterWait::Fail)]);
            Some(Wait { at_most: at_most?, then: then? })
        }
        (Some(wait), None) => {
            wait.error(
                "`wait` without `then`",
                "say what follows when the time is over: then = \"start\" (without it) or then = \"fail\"",
            );
            None
        }
        (None, Some(then)) => {
            then.error("`then` without `wait`", "say how long to wait for it first: wait = \"2m\"");
            None
        }
    }
}

fn read_on_loss(fields: &mut Fields<'_>) -> Option<OnLoss> {
    let (on_loss, grace) = (fields.take("on-loss"), fields.take("grace"));
    let time = grace.and_then(|v| v.duration()).unwrap_or(DEFAULT_GRACE);
    let words = [
        ("keep", OnLoss::Keep),
        ("stop", OnLoss::Stop { grace: time }),
        ("restart", OnLoss::Restart { grace: time }),
    ];
    let chosen = on_loss.and_then(|v| v.choice(&words));
    if let Some(grace) = grace
        && (on_loss.is_none() || chosen == Some(OnLoss::Keep))
    {
        grace.error(
            "`grace` means nothing while a loss changes nothing",
            "write on-loss = \"stop\" or \"restart\" beside it, or take it out",
        );
    }
    chosen
}
