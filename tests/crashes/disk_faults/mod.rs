//! Disks that fail under the real daemon: in the midst of load, on a disk of the tests' own that breaks on
//! demand; and files of a store that are not as they were left.

mod breaks_under_load;
mod files_damaged;
mod low_under_load;
