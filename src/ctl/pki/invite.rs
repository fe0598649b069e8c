//! `pki invite`: a certificate for a node, to be fetched from an agent with a one-time token.

use super::super::{Global, hint, order};
use super::{DAYS, hint_at_old};
use crate::api::wire::{InviteAsk, InviteReply};
use crate::model::{parse_duration, show_duration};
use crate::pki::{Ca, Token, Validity, Who};
use std::time::Duration;

/// The same limit as agents have.
const AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// For how long a token is good, as it is typed.
pub fn open_for(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(time) if !time.is_zero() && time <= AT_MOST => Ok(time),
        _ => Err("write it as 30m or 2h; 24h at most".to_owned()),
    }
}

pub async fn run(
    ca: &Ca,
    node: &str,
    open_for: Duration,
    reason: String,
    global: &Global,
) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let token = Token::new()?;
    let before = ca.issued()?;
    let issued = ca.issue(Who::Node(node.to_owned()), Validity::days(DAYS))?;
    let sealed = token.seal(&issued.certificate.name, &issued.bundle)?;
    let ask = InviteAsk {
        node: node.to_owned(),
        number: token.number(),
        sealed,
        for_ms: open_for.as_millis() as u64,
        by: order::who(),
        reason,
    };
    let reply = match client.post::<_, InviteReply>("/v1/invite", &ask).await {
        Ok(reply) => reply,
        Err(e) => {
            // Nobody has the token, so nobody will ever have the key.
            ca.withdraw(&issued.certificate)?;
            return Err(e.into());
        }
    };
    eprintln!(
        "{}, for {}, to be taken once. On {node}: clusterd join --token, and type",
        reply.text,
        show_duration(open_for)
    );
    super::super::print(&format!("{}\n", *token.text()))?;
    hint("whoever has the token can become this node: say it to nobody else");
    hint_at_old(&before, node);
    Ok(())
}
