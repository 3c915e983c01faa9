//! Making what `/etc/fstab` describes: volumes that are missing, and their properties.
//!
//! ```text
//! fstab text -> Entry -> Wish      (wish)    what a line wants; the first wrong word ends it all
//! Wish + index -> Action           (plan)    what is to be done, nothing where all is right
//! Action -> pool                   (action)  each by the same functions as the verb of that name
//! ```
//! Every line is looked at before anything is made.  Nothing is ever shrunk, formatted over, or made
//! again while the trash has it, and no pool is made.

mod action;
mod plan;
mod wish;

pub use action::Action;
pub use plan::{Plan, Task, plan, settle};
pub use wish::{FSTYPE, Wish, read};
