//! The picture of a [`Model`], on a terminal of any size. Pure but for the clock that ages are read from.

use std::rc::Rc;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, List, ListItem, Paragraph, Row, Sparkline, Table};

use super::model::{Health, Model, Stats};
use super::series::Series;
use crate::cli::table::{age, size, span};
use crate::clock::wall_ms;

/// Below this a second column is of no use.
const WIDE: u16 = 90;
const CHARTS: usize = 6;
const CHART_LINES: u16 = 5;
/// Steps of a chart's bar in one line.
const STEPS: u64 = 8;
const CALM: Color = Color::Cyan;

/// Its name, its samples, and how the latest of them is put into words.
type Chart<'a> = (&'a str, &'a Series, fn(f64) -> String);

const KEYS: &str = " q leave   s sort queues   p pause   ? help ";
const HELP: [&str; 9] = [
    "Figures are the daemon's own, once a second, for the last five minutes.",
    "",
    "sends        what clients sent and the router judged",
    "deliveries   what went out to devices",
    "spills       what was put on disk, for nobody took it in time",
    "waiting      messages on disk that some device still lacks",
    "commit p99   how long the slowest of a hundred syncs took",
    "",
    "q or Esc leaves, s sorts the queues, p or the space bar holds the picture.",
];

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let across = if frame.area().width >= WIDE { 3 } else { 2 };
    let chart_lines = CHART_LINES * (CHARTS.div_ceil(across) as u16);
    let parts = [Constraint::Length(1), Constraint::Length(chart_lines), Constraint::Min(0), Constraint::Length(1)];
    let [head, charts, lists, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(heading(model), head);
    draw_charts(frame, model, charts, across);
    draw_lists(frame, model, lists);
    frame.render_widget(Line::from(KEYS).style(Style::new().add_modifier(Modifier::DIM)), foot);
    if model.shows_help {
        draw_help(frame);
    }
}

fn heading(model: &Model) -> Line<'_> {
    let mut spans = vec![" doorstep ".bold()];
    if let Some(stats) = &model.stats {
        spans.push(Span::raw(format!("{}  up {}  ", stats.version, span(stats.uptime_ms))));
    }
    match (&model.lost, &model.health) {
        (Some(why), _) => spans.push(format!("not reached: {why}").fg(Color::Red)),
        (None, Some(health)) => spans.extend(state(health)),
        (None, None) => spans.push(Span::raw("waiting for the first figures")),
    }
    if model.is_paused {
        spans.push("  paused".fg(Color::Yellow).bold());
    }
    Line::from(spans)
}

/// Worst first: what a person has to see to.
fn state(health: &Health) -> Vec<Span<'_>> {
    let mut spans = vec![match health.ready {
        true => "ready".fg(Color::Green),
        false if health.draining => "draining".fg(Color::Yellow),
        false => "not ready".fg(Color::Red),
    }];
    if health.store != "ok" {
        spans.push(format!("  store {}", health.store).fg(Color::Red));
    }
    if health.expiry_paused {
        spans.push("  expiry paused".fg(Color::Yellow));
    }
    spans.push(Span::raw(format!("  {} free", size(health.disk_free_bytes))));
    spans
}

fn draw_charts(frame: &mut Frame<'_>, model: &Model, area: Rect, across: usize) {
    let charts: [Chart<'_>; CHARTS] = [
        ("sends/s", &model.sends, rate),
        ("deliveries/s", &model.deliveries, rate),
        ("spills/s", &model.spills, rate),
        ("sessions", &model.sessions, whole),
        ("waiting", &model.depth, whole),
        ("commit p99", &model.commits_ms, |ms| format!("{ms:.1} ms")),
    ];
    let rows: Rc<[Rect]> = Layout::vertical(vec![Constraint::Fill(1); CHARTS.div_ceil(across)]).split(area);
    for (row, charts) in rows.iter().zip(charts.chunks(across)) {
        let cells: Rc<[Rect]> = Layout::horizontal(vec![Constraint::Fill(1); across]).spacing(2).split(*row);
        for (cell, (name, series, words)) in cells.iter().zip(charts) {
            draw_chart(frame, *cell, name, series, *words);
        }
    }
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, name: &str, series: &Series, words: fn(f64) -> String) {
    let value = series.last().map_or_else(|| "-".to_owned(), words);
    let title = Line::from(vec![Span::raw(format!(" {name} ")), format!("{value} ").bold()]);
    let block = Block::new().borders(Borders::TOP).title(title).border_style(Style::new().add_modifier(Modifier::DIM));
    let inside = block.inner(area);
    let top = u64::from(inside.height) * STEPS;
    let bars = series.scaled(usize::from(inside.width), top);
    frame.render_widget(block, area);
    frame.render_widget(Sparkline::default().data(bars).max(top).style(Style::new().fg(CALM)), inside);
}

fn draw_lists(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let [queues, happenings] = match area.width >= WIDE {
        true => Layout::horizontal(halves).spacing(2).areas(area),
        false => Layout::vertical(halves).areas(area),
    };
    draw_queues(frame, model, queues);
    draw_happenings(frame, model, happenings);
}

fn draw_queues(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let now_ms = wall_ms();
    let totals = model.stats.as_ref().map_or_else(String::new, totals);
    let block = panel(format!(" queues by {}{totals} ", model.sort.name()));
    if model.queues.queues.is_empty() {
        return frame.render_widget(Paragraph::new("nobody has messages waiting").block(block), area);
    }
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let rows = model.queues.queues.iter().map(|line| {
        let cells = [line.messages.to_string(), size(line.bytes), age(line.oldest_ms, now_ms)];
        Row::new(std::iter::once(Cell::from(line.user.as_str())).chain(cells.map(right)))
    });
    let head = ["messages", "bytes", "oldest"].map(|name| right(name.to_owned()));
    let head = Row::new(std::iter::once(Cell::from("user")).chain(head)).add_modifier(Modifier::DIM);
    let widths = [Constraint::Fill(1), Constraint::Length(10), Constraint::Length(10), Constraint::Length(12)];
    frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
}

fn totals(stats: &Stats) -> String {
    let elided = stats.elided_share.map_or_else(String::new, |share| format!(", {:.1} % never on disk", share * 100.0));
    format!(": {} in all{elided}", size(stats.queues.bytes))
}

fn draw_happenings(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let online = model.stats.as_ref().map_or_else(String::new, |stats| {
        format!(
            ": {} online, {} connections, {} rejected",
            stats.users_online, stats.connections, stats.counters.rejected
        )
    });
    let block = panel(format!(" events{online} "));
    let items = model.happenings.iter().take(usize::from(area.height)).map(|happening| {
        let kind = format!("{:<15}", happening.kind).fg(CALM);
        ListItem::new(Line::from(vec![
            Span::raw(format!("{} ", time_of_day(happening.at_ms))),
            kind,
            Span::raw(&happening.text),
        ]))
    });
    frame.render_widget(List::new(items).block(block), area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let whole = frame.area();
    let (width, height) = (whole.width.min(78), whole.height.min(HELP.len() as u16 + 2));
    let area = Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP.map(Line::from).to_vec()).block(Block::bordered().title(" help ")), area);
}

fn panel(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title).border_style(Style::new().add_modifier(Modifier::DIM))
}

fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { whole(rate) }
}

/// Thousands are set apart: figures are read at a glance.
fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Hours, minutes, seconds in UTC, as the log has them.
fn time_of_day(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Value, json};

    use super::super::feed::News;
    use super::super::sse::SseEvent;
    use super::*;

    fn stats(at_ms: u64, sends: u64) -> News {
        let stats = json!({
            "at_ms": at_ms, "version": "1.2.3", "uptime_ms": 200_000, "connections": 9, "sessions": 7, "users_online": 6,
            "queues": { "messages": 40_122, "bytes": 2048 }, "elided_share": 0.5,
            "rates": { "commit_seconds": { "mean": 0.001, "p50": 0.001, "p99": 0.0032 } },
            "counters": { "sends": sends, "deliveries": 0, "stored_messages": 0, "rejected": 3 },
        });
        News::Stats(serde_json::from_value(stats).unwrap())
    }

    fn told(name: &str, data: Value) -> News {
        News::Happened(SseEvent { name: name.to_owned(), data: data.to_string() })
    }

    fn filled() -> Model {
        let mut model = Model::default();
        let health = json!({
            "ready": true, "draining": false, "store": "ok", "expiry_paused": true, "disk_free_bytes": 1 << 30,
        });
        let queues = json!({ "queues": [{ "user": "bob", "messages": 40_122, "bytes": 2048, "oldest_ms": 1 }] });
        for news in [
            stats(1000, 0),
            stats(2000, 12_345),
            News::Health(serde_json::from_value(health).unwrap()),
            News::Queues(serde_json::from_value(queues).unwrap()),
            told("session_opened", json!({ "at_ms": 3_661_000, "user": "carol", "device": "phone", "session": "x" })),
        ] {
            model.hear(news);
        }
        model
    }

    fn screen(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_on_a_usual_screen() {
        let text = screen(&filled(), 120, 40);
        for part in [
            "doorstep 1.2.3  up 3 m 20 s  ready  expiry paused  1.0 GiB free",
            "sends/s 12 345",
            "sessions 7",
            "waiting 40 122",
            "commit p99 3.2 ms",
            "queues by depth: 2.0 KiB in all, 50.0 % never on disk",
            "bob",
            "events: 6 online, 9 connections, 3 rejected",
            "01:01:01 session opened carol  device phone",
            "q leave",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn no_screen_is_too_small_to_be_drawn() {
        let mut model = filled();
        model.shows_help = true;
        for (width, height) in [(1, 1), (2, 3), (10, 5), (40, 12), (79, 24), (300, 3)] {
            screen(&model, width, height);
        }
        assert!(screen(&Model::default(), 80, 24).contains("waiting for the first figures"));
        assert!(screen(&model, 80, 24).contains("holds the picture"));
    }

    #[test]
    fn a_lost_daemon_is_told_and_what_was_known_stays() {
        let mut model = filled();
        model.hear(News::Lost("no daemon is listening".to_owned()));
        let text = screen(&model, 120, 40);
        assert!(text.contains("not reached: no daemon is listening") && text.contains("40 122"), "{text}");
        model.hear(stats(9000, 5));
        assert!(screen(&model, 120, 40).contains("sends/s 0.0"), "a restart is no negative rate");
    }

    #[test]
    fn a_held_picture_stays_as_it_is() {
        let mut model = filled();
        model.toggle_pause();
        model.hear(stats(3000, 99_999_999));
        model.hear(told("presence", json!({ "at_ms": 1, "user": "mallory" })));
        let text = screen(&model, 120, 40);
        assert!(text.contains("paused") && text.contains("12 345") && !text.contains("mallory"), "{text}");
    }

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!([0.0, 999.4, 1000.0, 1_234_567.0].map(whole), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([0.25, 9.99, 10.0].map(rate), ["0.2", "10.0", "10"]);
        assert_eq!(time_of_day(86_399_999), "23:59:59");
    }
}
