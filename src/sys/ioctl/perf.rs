//! `perf_event_open(2)`: what the kernel counts and records of its own events.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::{ioctl_int, ioctl_ptr};

/// struct perf_event_attr of uapi/linux/perf_event.h, as far as its first version went, which every
/// kernel takes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    more_config: u64,
}

impl Attributes {
    const SIZE: u32 = 64;
    /// `PERF_TYPE_TRACEPOINT`
    const TRACEPOINT: u32 = 2;
    /// `PERF_SAMPLE_RAW`
    const SAMPLE_RAW: u64 = 1 << 10;
    /// The first bit of the flags.
    const DISABLED: u64 = 1;
}

/// Opens a tracepoint's event on one CPU, whatever process runs there, switched off; each one is
/// recorded with its raw data.
///
/// # Errors
/// `EINVAL` beyond the last CPU that there can be, `ENODEV` where one is missing or switched off.
pub fn perf_open_tracepoint(id: u64, cpu: u32) -> io::Result<OwnedFd> {
    const CLOSE_ON_EXEC: u64 = 8;
    let attributes = Attributes {
        kind: Attributes::TRACEPOINT,
        size: Attributes::SIZE,
        config: id,
        sample_period: 1,
        sample_type: Attributes::SAMPLE_RAW,
        flags: Attributes::DISABLED,
        ..Attributes::default()
    };
    let (any_process, no_group): (c_int, c_int) = (-1, -1);
    // SAFETY: the kernel reads `size` bytes of a structure that is as long, and follows no pointer
    // in it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            any_process,
            cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a tracepoint's event see only what matches a filter, such as `dev == 7340032`
/// (`PERF_EVENT_IOC_SET_FILTER`; Documentation/trace/events.rst, "Event filtering").
pub fn perf_set_filter(event: impl AsFd, filter: &CStr) -> io::Result<()> {
    const SET_FILTER: u32 = 0x4008_2406;
    ioctl_ptr(event, SET_FILTER, filter.as_ptr().cast_mut()).map(drop)
}

/// Switches an event on (`PERF_EVENT_IOC_ENABLE`).
pub fn perf_enable(event: impl AsFd) -> io::Result<()> {
    const ENABLE: u32 = 0x2400;
    ioctl_int(event, ENABLE, 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::Attributes;

    #[test]
    fn attributes_are_as_long_as_they_say() {
        assert_eq!(size_of::<Attributes>(), Attributes::SIZE as usize);
    }
}
