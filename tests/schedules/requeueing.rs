//! Dead letters that go back to their inbox: asked for, shown to an owner, answered. A letter becomes one message at
//! most, and is in its list until that message is on disk.

use std::sync::Arc;

use doorstep::codes::Code;
use doorstep::ids::Seq;
use doorstep::message::Message;
use doorstep::routing::command::{Command, NotRequeued, Report, Requeue};
use doorstep::store::FoundLetter;
use tokio::sync::oneshot;

use super::cast::{body_no, id_no, user_no};
use super::ledger::Ledger;
use super::meetings::{Event, Needed};
use super::reports::Ask;
use super::schedule::Player;
use super::world::World;

const TTL_MS: u64 = 1_000_000_000;

type Outcome = Result<Seq, NotRequeued>;

/// An operator who waits.
pub struct Asked {
    user: u8,
    letter: u64,
    taken_us: u64,
    answer: oneshot::Receiver<Outcome>,
}

/// A letter that an owner is shown at this moment: it may become a message.
pub struct Shown {
    letter: u64,
    message: Arc<Message>,
    expires_ms: u64,
}

impl Player<'_> {
    /// An operator puts a letter back, or two do the same one. Sometimes it is one that is not there any more, or that
    /// falls out of the list meanwhile, and sometimes a crash comes before the commit does.
    pub fn requeue(&mut self) {
        let disk = &self.world.disk;
        let there = disk.letters.keys().copied();
        let letters: Vec<u64> =
            if self.rng.u8(..) < 40 { (0..disk.letters_of.len() as u64).collect() } else { there.collect() };
        let Some(letter) = self.rng.choice(letters) else { return };
        let user = self.world.disk.letters_of[letter as usize];
        self.world.requeue(user, letter);
        match self.rng.u8(..) {
            0..60 => self.world.requeue(user, letter),
            60..80 => self.world.disk.drop_letter(),
            80..140 => {
                let at = self.world.reads.iter().position(|read| matches!(read.ask, Ask::Letter { .. }));
                at.into_iter().for_each(|at| self.world.report(at, false));
                let through = self.rng.usize(0..=self.world.disk.queue.len());
                self.world.crash(through);
            }
            _ => {}
        }
    }
}

impl World<'_> {
    pub fn requeue(&mut self, user: u8, letter: u64) {
        self.say(|| format!("requeue letter {letter} of u{user}"));
        self.asked += 1;
        let (reply, answer) = oneshot::channel();
        let taken_us = self.now.us;
        self.requeues.push(Asked { user, letter, taken_us, answer });
        let name = self.cast.users[usize::from(user)].clone();
        let requeue = Requeue { user: name, letter, ttl_ms: TTL_MS, taken_us, reply };
        self.apply(Event::Requeue, user, Command::Requeue(requeue));
    }

    /// An owner hears what the list holds.
    pub fn show_letter(&mut self, user: u8, report: Report) {
        if let Report::Letter { letter, result: Ok(FoundLetter::Whole { message, .. }), .. } = &report {
            let expires_ms = self.now.wall_ms + TTL_MS;
            self.ledger.shown = Some(Shown { letter: *letter, message: message.clone(), expires_ms });
        }
        self.apply(Event::Letter, user, report.into());
        self.ledger.shown = None;
    }

    pub fn answer_requeue(&mut self, reply: oneshot::Sender<Outcome>, outcome: Outcome) {
        self.replied += 1;
        reply.send(outcome).unwrap();
        let at = self.requeues.iter_mut().position(|asked| asked.answer.try_recv().is_ok()).unwrap();
        let Asked { user, letter, .. } = self.requeues.swap_remove(at);
        let is_there = self.disk.letters.contains_key(&letter);
        match outcome {
            Ok(seq) => {
                self.meetings.need(Needed::Requeued);
                let msg = self.ledger.find_mut(user, seq.0);
                assert_eq!(msg.letter, Some(letter), "u{user}: letter {letter} went back as another message: {seq}");
                assert!(msg.stored && !is_there, "u{user}: letter {letter} is said to be stored, and is not");
                msg.accepted = true;
            }
            Err(NotRequeued::NotFound) => {
                assert!(!is_there, "u{user}: letter {letter} is not found, and it is there");
                let gone_back = self.ledger.desks[usize::from(user)].messages.iter().any(|m| m.letter == Some(letter));
                if gone_back {
                    self.meetings.need(Needed::LetterGone);
                }
            }
            Err(NotRequeued::Unreadable) => {
                let letter = self.disk.letters.get(&letter);
                assert!(letter.is_none_or(|(_, message)| message.is_none()), "u{user}: a sound letter is unreadable");
            }
            Err(NotRequeued::Refused { code: Code::UnknownOutcome, .. }) => {}
            Err(NotRequeued::Refused { reason, .. }) => self.ledger.check_quota_is_full(user, reason),
        }
    }

    /// Whoever puts a letter back is answered within the time that there is for a send.
    pub fn check_requeues(&self) {
        let until_us = |asked: &Asked| asked.taken_us + self.settings.accept_timeout_us;
        if let Some(late) = self.requeues.iter().find(|asked| until_us(asked) <= self.now.us) {
            panic!("u{}: nobody says in time what became of letter {}", late.user, late.letter);
        }
    }
}

impl Ledger {
    /// A message shows itself that was a dead letter until now.
    pub fn comes_back(&self, user: u8, shown: &Shown, message: &Message) {
        let Shown { letter, message: dead, expires_ms } = shown;
        let name =
            |message: &Message| (user_no(&message.from), id_no(&message.id), body_no(&message.body), message.ts_ms);
        assert_eq!(name(message), name(dead), "u{user}: letter {letter} comes back as another message");
        assert!(message.retry, "u{user}: letter {letter} comes back unmarked");
        assert_eq!(message.expires_ms, *expires_ms, "u{user}: letter {letter} has not its time again");
        let messages = &self.desks[usize::from(user)].messages;
        // What a crash took, or was acknowledged and not stored by then, left the letter where it was.
        let twice = messages.iter().find(|msg| msg.letter == Some(*letter) && (msg.run == self.run || msg.stored));
        if let Some(first) = twice {
            panic!("u{user}: letter {letter} comes back as {}, and has come back as {}", message.seq, first.seq);
        }
    }
}

impl Shown {
    pub fn letter(&self) -> u64 {
        self.letter
    }
}
