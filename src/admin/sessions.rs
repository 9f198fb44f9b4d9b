//! Calls about sessions: the list over all shards, removing one.

use hyper::StatusCode;
use serde_json::json;

use super::desk::Clerk;
use super::problem::Problem;
use super::server::{Answer, json};
use crate::ids::SessionId;
use crate::routing::command::{Command, Query, SessionView};

impl Clerk {
    pub(super) async fn sessions(&self, after: Option<SessionId>, limit: usize) -> Answer {
        // One more than asked for tells whether there are more.
        let mut sessions = self.sessions_after(after, limit + 1).await?;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(|last| last.session);
        json(&json!({ "sessions": sessions, "next": next }))
    }

    pub(super) async fn kick(&self, session: SessionId) -> Answer {
        let found = self.find(session).await?;
        let user = found.user.clone();
        match self.tell(&user, |reply| Command::Kick { user: user.clone(), session, reply }).await {
            // It left between the two.
            Err(problem) if problem.status == StatusCode::NOT_FOUND => return Err(no_session(session)),
            told => told?,
        }
        tracing::info!(?user, device = ?found.device, %session, "session removed by an operator");
        json(&json!({ "session": session, "user": user, "device": found.device, "removed": true }))
    }

    /// The session with this id: whose it is, its id does not say.
    async fn find(&self, session: SessionId) -> Result<SessionView, Problem> {
        let before = session.0.checked_sub(1).map(SessionId);
        let found = self.sessions_after(before, 1).await?.into_iter().next();
        found.filter(|found| found.session == session).ok_or_else(|| no_session(session))
    }

    /// The first `limit` sessions behind `after`, by id, over all shards.
    async fn sessions_after(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionView>, Problem> {
        let shards = self.query_all(|reply| Query::Sessions { after, limit, reply }).await?;
        let mut sessions: Vec<_> = shards.into_iter().flatten().collect();
        sessions.sort_unstable_by_key(|view| view.session);
        sessions.truncate(limit);
        Ok(sessions)
    }
}

fn no_session(session: SessionId) -> Problem {
    Problem::not_found(format!("there is no session {session}"))
}
