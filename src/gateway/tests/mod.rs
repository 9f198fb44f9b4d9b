//! The gateway over real sockets, with the test in the owner's place. One file per side of the matter.

mod bounds;
mod entrance;
mod floods;
mod frames;
mod lifetime;
mod tokens;
