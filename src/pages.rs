//! The web pages that the binary carries: which files, of which type, under which paths.
//!
//! They are plain files that a browser takes as they stand; nothing is built. Serving them is for others: the
//! gateway has the demo, the dashboard command has the operator's page.

/// What a page may do: its own scripts and styles, its own server, and nothing else.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self' ws:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of a page.
#[derive(Debug)]
pub struct Page {
    /// Where a browser asks for it.
    pub path: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

/// The file at `path`, if `pages` has it.
pub fn find(pages: &'static [Page], path: &str) -> Option<&'static Page> {
    pages.iter().find(|page| page.path == path)
}

/// Files of folders under `clients`, each at the path where a browser asks for it.
macro_rules! pages {
    ($($path:literal from $folder:literal: [$($file:literal)*])*) => {
        &[$($(page(
            concat!($path, $file),
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/", $folder, "/", $file)),
        )),*),*]
    };
}

const fn page(path: &'static str, bytes: &'static [u8]) -> Page {
    match path.as_bytes() {
        b"/index.html" => Page { path: "/", content_type: content_type(path), bytes },
        _ => Page { path, content_type: content_type(path), bytes },
    }
}

#[allow(clippy::panic, reason = "only ever evaluated by the compiler, for the tables below")]
const fn content_type(path: &str) -> &'static str {
    match path.as_bytes() {
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b's', b'v', b'g'] => "image/svg+xml",
        [.., b'.', b'h', b't', b'm', b'l'] => "text/html; charset=utf-8",
        _ => panic!("a page is made of .html, .css, .js and .svg"),
    }
}

/// A chat page to try the router with, on the JavaScript client.
pub static DEMO: &[Page] = pages! {
    "/" from "demo": [
        "index.html"
        "announcer.js" "archive.js" "chat.css" "chat.js" "composer.js" "connection.js" "conversation.css"
        "main.js" "people.js" "thread.js" "words.js" "you.js"
    ]
    "/shared/" from "shared": ["base.css" "dom.js" "icon.svg"]
    "/client/" from "js/src": [
        "backoff.js" "client.js" "clock.js" "closecodes.js" "connection.js" "device.js" "errors.js" "events.js"
        "fitting.js" "frames.js" "handlers.js" "ids.js" "index.js" "intake.js" "journal.js" "keys.js" "link.js"
        "locks.js" "marks.js" "options.js" "outbox.js" "page.js" "pings.js" "presence.js" "receiver.js"
        "sender.js" "state.js" "storage/indexeddb.js" "storage/memory.js" "storage/storage.js" "text.js"
        "tokens.js"
    ]
};

/// What an operator sees of a running router.
pub static DASHBOARD: &[Page] = pages! {
    "/" from "dashboard": [
        "index.html"
        "api.js" "banners.js" "bodies.js" "chart.js" "confirm.js" "context.js" "daemon.js"
        "dashboard.css" "events.js" "feed.js" "format.js" "history.js" "letters.js"
        "live.js" "main.js" "messages.js" "overview.js" "parts.css" "queues.js" "sessions.js" "table.js" "user.js"
        "users.js"
    ]
    "/shared/" from "shared": ["base.css" "dom.js" "icon.svg"]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Files of a folder under `clients`, as paths of a page.
    fn files(folder: &str, at: &str) -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(folder);
        let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
        let found = entries.flat_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => files(&format!("{folder}/{name}"), &format!("{at}{name}/")),
                false => BTreeSet::from([format!("{at}{name}")]),
            }
        });
        found.collect()
    }

    fn served(pages: &[Page]) -> BTreeSet<String> {
        pages
            .iter()
            .map(|page| if page.path == "/" { "/index.html".to_owned() } else { page.path.to_owned() })
            .collect()
    }

    #[test]
    fn every_file_of_a_page_is_served() {
        // What keeps files in Node is not for browsers.
        let client = files("js/src", "/client/").into_iter().filter(|path| path != "/client/storage/file.js");
        let with_shared = |page| files(page, "/").into_iter().chain(files("shared", "/shared/"));
        assert_eq!(served(DEMO), with_shared("demo").chain(client).collect());
        assert_eq!(served(DASHBOARD), with_shared("dashboard").collect());
    }

    /// The gateway answers through a session's outbox, which has bounds.
    #[test]
    fn every_file_fits_into_one_answer() {
        for page in DEMO.iter().chain(DASHBOARD) {
            assert!(!page.bytes.is_empty() && page.bytes.len() < 128 * 1024, "{}", page.path);
        }
    }
}
