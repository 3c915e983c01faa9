//! All that asks the kernel or runs a tool.  Nothing here knows a volume's name or the index.

pub mod beneath;
pub mod completions;
pub mod copy;
pub mod extents;
pub mod freeze;
pub mod guardian;
pub mod holders;
pub mod ioctl;
pub mod kernel;
pub mod loopdev;
pub mod marker;
pub mod mount;
pub mod mountinfo;
pub mod perf;
pub mod probe;
pub mod rcu;
pub mod reflink;
pub mod signals;
pub mod tool;
pub mod tracefs;
pub mod tryout;
pub mod watch;
