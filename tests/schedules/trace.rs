//! What a replayed seed prints: effects and writes in a few words, seqs counted from the start.

use doorstep::ids::Seq;
use doorstep::routing::effect::Effect;
use doorstep::store::{Op, What, Write};

use super::world::START_US;

pub fn describe(effect: &Effect) -> String {
    let short = |seq: Seq| seq.0.saturating_sub(START_US);
    match effect {
        Effect::Welcome(s, w) => {
            format!("welcome {} at {} registered {} gap {}", s.id().0, short(w.cursor), w.registered, w.gap)
        }
        Effect::Deliver(s, d) => {
            let mark = if d.redelivered { " again" } else { "" };
            format!("deliver {} to {}{mark}", short(d.message.seq), s.id().0)
        }
        Effect::DeliverEphemeral(s, _) => format!("ephemeral to {}", s.id().0),
        Effect::CaughtUp(s, seq) => format!("caught up {} to {}", s.id().0, short(*seq)),
        Effect::Presence(s, info) => format!("presence to {}: {info:?}", s.id().0),
        Effect::Error(s, code, why, _) => format!("error to {}: {code:?} {why}", s.id().0),
        Effect::Close(s, closing) => format!("close {}: {:?} {}", s.id().0, closing.code, closing.reason),
        Effect::Answer(_, answer) => format!("answer {}: {:?}", answer.message.id, answer.outcome),
        Effect::Load(user) => format!("load {user}"),
        Effect::ReadPage(p) => format!("read page {}/{} {}..={}", p.user, p.device, short(p.after), short(p.upto)),
        Effect::ReadSweep { user, job, after, upto } => {
            format!("read sweep {user} job {job} {}..={}", short(*after), short(*upto))
        }
        Effect::LookUp(key) => format!("look up {key:?}"),
        Effect::ReadLetter { user, letter } => format!("read letter {letter} of {user}"),
        Effect::Write(Write { user, what: What::Append { message, .. } }) => {
            format!("append {user} {} id {}", short(message.seq), message.id)
        }
        Effect::Write(Write { user, what: What::Requeue { message, letter, .. } }) => {
            format!("requeue {user} {} letter {letter}", short(message.seq))
        }
        Effect::Write(Write { user, what: What::Change { token, ops } }) => {
            let ops: Vec<String> = ops.iter().map(|op| describe_op(op, &short)).collect();
            format!("change {user} #{token}: {}", ops.join(", "))
        }
        Effect::Cancel(_) => "cancel".into(),
        Effect::Paint { info, .. } => format!("paint {info:?}"),
        Effect::Outstanding { from, waits } => format!("outstanding {from} {waits}"),
        Effect::ReplyDone(_, outcome) => format!("reply {outcome:?}"),
        Effect::ReplyCount(_, outcome) => format!("reply {outcome:?}"),
        Effect::ReplyRequeued(_, outcome) => format!("reply {outcome:?}"),
        Effect::Tell(event) => format!("tell {event:?}"),
        Effect::Drained(_) => "drained".into(),
    }
}

fn describe_op(op: &Op, short: &impl Fn(Seq) -> u64) -> String {
    match op {
        Op::Remove { seq, .. } => format!("remove {}", short(*seq)),
        Op::PutDevice { device, record } => {
            format!("put {device} cursor {} pushed {}", short(record.cursor), short(record.pushed_upto))
        }
        Op::DropDevice { device } => format!("drop {device}"),
        Op::PutUser { record } => format!("{record:?}"),
        Op::Bury { letter } => format!("bury {} {:?}", short(letter.seq), letter.reason),
        Op::PutDue { .. } => "put due".into(),
        Op::DropDue { .. } => "drop due".into(),
    }
}
