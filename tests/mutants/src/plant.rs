//! Puts the mistakes of one file into its text, each behind a question whether it is the one that is on.
//!
//! An expression `a < b` becomes `(if on(7) { a > b } else { a < b })`. In the branch of a mistake everything else is as
//! it was written, since only one is on at a time; the other mistakes within the expression are in the last branch.

use crate::mistake::{Genre, Mistake};
use std::collections::BTreeMap;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The text with its mistakes, and where in it each of them is.
pub struct Planted {
    pub text: String,
    /// What is done when a mistake is on.
    pub branches: Vec<(Range<usize>, usize)>,
    /// The whole of what stands where the mistake was put in.
    pub sites: Vec<(Range<usize>, usize)>,
    /// Mistakes for which there is no place that a question could be put.
    pub without_place: Vec<usize>,
}

/// Plants the mistakes, which are known by their numbers.
///
/// # Errors
///
/// The text is no Rust.
pub fn plant(text: &str, mistakes: &[(usize, &Mistake)]) -> syn::Result<Planted> {
    let mut places = Places { wanted: BTreeMap::new(), sites: BTreeMap::new() };
    for (number, mistake) in mistakes {
        places.wanted.entry(mistake.bytes(text).start).or_default().push((*number, mistake));
    }
    places.visit_file(&syn::parse_file(text)?);
    let placed: Vec<usize> = places.sites.values().flat_map(|site| &site.mistakes).map(|(number, _)| *number).collect();
    let without_place = mistakes.iter().map(|(number, _)| *number).filter(|number| !placed.contains(number)).collect();
    let planted = Planted { text: String::new(), branches: vec![], sites: vec![], without_place };
    let mut printer = Printer { text, sites: &places.sites, planted };
    printer.print(0..text.len(), None);
    Ok(printer.planted)
}

/// How mistakes are put in at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    /// The function returns before its first statement. Before `Choice`: it stands around an expression that is the whole body.
    Return,
    /// The expression is put in a choice of expressions.
    Choice,
    /// The pattern, which is this, is given a condition.
    Condition,
}

struct Site<'a> {
    manner: Manner,
    mistakes: Vec<(usize, &'a Mistake)>,
}

/// Beginning first, and of those with the same one the longest first.
type Key = (usize, std::cmp::Reverse<usize>, Manner);

struct Places<'a> {
    /// By the byte where what they replace begins.
    wanted: BTreeMap<usize, Vec<(usize, &'a Mistake)>>,
    sites: BTreeMap<Key, Site<'a>>,
}

impl Places<'_> {
    /// The mistakes that replace what begins at `at` are put in at `range`.
    fn place(&mut self, at: usize, genre: Genre, range: Range<usize>, manner: Manner) {
        let Some(wanted) = self.wanted.get(&at) else { return };
        let mistakes: Vec<_> = wanted.iter().filter(|(_, mistake)| mistake.genre == genre).copied().collect();
        if mistakes.is_empty() {
            return;
        }
        let key = (range.start, std::cmp::Reverse(range.end), manner);
        let site = self.sites.entry(key).or_insert_with(|| Site { manner, mistakes: vec![] });
        site.mistakes.extend(mistakes);
    }

    fn function(&mut self, block: &syn::Block) {
        if let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) {
            let at = first.span().byte_range().start;
            self.place(at, Genre::FnValue, at..last.span().byte_range().end, Manner::Return);
        }
    }
}

/// Whether `let` is a part of this condition, which no parenthesis may stand around.
fn has_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(both) => {
            matches!(both.op, syn::BinOp::And(_)) && (has_let(&both.left) || has_let(&both.right))
        }
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Places<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, both: &'ast syn::ExprBinary) {
        if !has_let(&both.left) && !has_let(&both.right) {
            let at = both.op.span().byte_range().start;
            self.place(at, Genre::BinaryOperator, both.span().byte_range(), Manner::Choice);
        }
        visit::visit_expr_binary(self, both);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let range = unary.span().byte_range();
        self.place(range.start, Genre::UnaryOperator, range, Manner::Choice);
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, whole: &'ast syn::ExprMatch) {
        // A pattern with a condition does not count as one that covers anything; without such an arm it would not compile.
        let covers_all = |arm: &syn::Arm| matches!(arm.pat, syn::Pat::Wild(_)) && arm.guard.is_none();
        if whole.arms.iter().any(covers_all) {
            for arm in &whole.arms {
                let pattern = arm.pat.span().byte_range();
                self.place(arm.span().byte_range().start, Genre::MatchArm, pattern, Manner::Condition);
            }
        }
        visit::visit_expr_match(self, whole);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            let range = guard.span().byte_range();
            self.place(range.start, Genre::MatchArmGuard, range, Manner::Choice);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, whole: &'ast syn::ExprStruct) {
        for field in &whole.fields {
            let at = field.span().byte_range().start;
            self.place(at, Genre::StructField, whole.span().byte_range(), Manner::Choice);
        }
        visit::visit_expr_struct(self, whole);
    }
}

struct Printer<'a> {
    text: &'a str,
    sites: &'a BTreeMap<Key, Site<'a>>,
    planted: Planted,
}

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.planted.text.push_str(text);
    }

    /// Prints a part of the file with all that is put in there, but for what stands around the very part (`within`).
    fn print(&mut self, range: Range<usize>, within: Option<Key>) {
        let mut at = range.start;
        let from = within.unwrap_or((range.start, std::cmp::Reverse(usize::MAX), Manner::Return));
        let sites: Vec<(&Key, &Site)> = self.sites.range(from..).filter(|(key, _)| Some(**key) != within).collect();
        for (key, site) in sites {
            let (start, std::cmp::Reverse(end), _) = *key;
            if start >= range.end {
                break;
            }
            // What lies within the one before was printed with it.
            if start < at {
                continue;
            }
            self.put(&self.text[at..start]);
            at = self.print_site(*key, start..end, site);
        }
        self.put(&self.text[at..range.end]);
    }

    /// Answers up to where the file is printed then.
    fn print_site(&mut self, key: Key, range: Range<usize>, site: &Site) -> usize {
        let began = self.planted.text.len();
        let done = match site.manner {
            Manner::Choice => self.print_choice(key, range, site),
            Manner::Return => self.print_return(key, range, site),
            Manner::Condition => self.print_condition(range, site),
        };
        let whole = began..self.planted.text.len();
        self.planted.sites.extend(site.mistakes.iter().map(|(number, _)| (whole.clone(), *number)));
        done
    }

    fn print_choice(&mut self, key: Key, range: Range<usize>, site: &Site) -> usize {
        self.put("(");
        for (number, mistake) in &site.mistakes {
            let replaced = mistake.bytes(self.text);
            let before = &self.text[range.start..replaced.start];
            let after = &self.text[replaced.end..range.end];
            self.put(&format!("if crate::mutants::on({number}) {{ "));
            self.branch(*number, &format!("{before}{}{after}", mistake.replacement));
            self.put(" } else ");
        }
        self.put("{ ");
        self.print(range.clone(), Some(key));
        self.put(" })");
        range.end
    }

    fn print_return(&mut self, key: Key, range: Range<usize>, site: &Site) -> usize {
        for (number, mistake) in &site.mistakes {
            self.put(&format!("if crate::mutants::on({number}) {{ "));
            self.branch(*number, &format!("return {};", mistake.replacement));
            self.put(" }\n");
        }
        self.print(range.clone(), Some(key));
        range.end
    }

    fn print_condition(&mut self, range: Range<usize>, site: &Site) -> usize {
        self.put(&self.text[range.clone()]);
        for (number, _) in &site.mistakes {
            self.branch(*number, &format!(" if !crate::mutants::on({number})"));
        }
        range.end
    }

    fn branch(&mut self, number: usize, text: &str) {
        let began = self.planted.text.len();
        self.put(text);
        self.planted.branches.push((began..self.planted.text.len(), number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cargo-mutants would say of a place that is given by the text it replaces.
    fn mistake(text: &str, genre: &str, replaced: &str, replacement: &str) -> Mistake {
        let start = text.find(replaced).expect("what is replaced is in the text");
        let place = |at: usize| serde_json::json!({"line": 1, "column": text[..at].chars().count() + 1});
        serde_json::from_value(serde_json::json!({
            "name": "", "file": "", "genre": genre, "replacement": replacement,
            "span": {"start": place(start), "end": place(start + replaced.len())},
        }))
        .expect("a mistake")
    }

    fn planted(text: &str, mistakes: &[(&str, &str, &str)]) -> Planted {
        let mistakes: Vec<_> = mistakes.iter().map(|(genre, from, to)| mistake(text, genre, from, to)).collect();
        plant(text, &mistakes.iter().enumerate().collect::<Vec<_>>()).expect("it is Rust")
    }

    #[test]
    fn an_expression_is_put_in_a_choice_with_those_within_in_the_last_branch() {
        let text = "fn f(ä: bool, b: u8) -> bool { ä && b < 3 }";
        let done = planted(
            text,
            &[("BinaryOperator", "&&", "||"), ("BinaryOperator", "<", ">"), ("FnValue", "ä && b < 3", "true")],
        );
        let within = "(if crate::mutants::on(1) { b > 3 } else { b < 3 })";
        let choice = format!("(if crate::mutants::on(0) {{ ä || b < 3 }} else {{ ä && {within} }})");
        let body = format!("if crate::mutants::on(2) {{ return true; }}\n{choice}");
        assert_eq!(done.text, text.replace("ä && b < 3", &body));
        assert!(done.without_place.is_empty());
        for (range, number) in &done.branches {
            assert_eq!(&done.text[range.clone()], ["ä || b < 3", "b > 3", "return true;"][*number]);
        }
    }

    #[test]
    fn arms_guards_fields_and_signs_have_a_place() {
        let text = "fn f(x: i8) -> S { match x { 1 => g(), 2 if x > 0 => S { a: -x, ..h() }, _ => h() } }";
        let done = planted(
            text,
            &[
                ("MatchArm", "1 => g(),", ""),
                ("MatchArmGuard", "x > 0", "false"),
                ("StructField", "a: -x,", ""),
                ("UnaryOperator", "-x", "x"),
            ],
        );
        assert!(done.without_place.is_empty());
        assert!(done.text.contains("1 if !crate::mutants::on(0) => g()"), "{}", done.text);
        assert!(done.text.contains("2 if (if crate::mutants::on(1) { false } else { x > 0 }) =>"), "{}", done.text);
        assert!(done.text.contains("(if crate::mutants::on(2) { S {  ..h() } } else { S { a: (if"), "{}", done.text);
        syn::parse_file(&done.text).expect("it is Rust still");
    }

    #[test]
    fn a_condition_with_let_has_no_place() {
        let done =
            planted("fn f(x: Option<u8>) { if let Some(y) = x && y < 3 { g() } }", &[("BinaryOperator", "&&", "||")]);
        assert_eq!(done.without_place, [0]);
    }
}
