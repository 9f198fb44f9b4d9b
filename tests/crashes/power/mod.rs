//! Power cuts of the real daemon: its store lies on a disk of the tests' own, which forgets what was not
//! synced (or keeps some of it, as disks do). And tests of that disk itself.

mod cuts_under_load;
mod the_disk_itself;
