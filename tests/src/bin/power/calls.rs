//! The C library's calls that change a disk, each handed to the recorder on its way to the kernel.
//!
//! A program's own functions come before those of the libraries that it loads. SQLite is compiled into this
//! program, and so is the standard library: both end up here.
#![expect(unsafe_code, reason = "functions that C calls; each passes on what it was given, unchanged")]

use libc::{c_char, c_int, c_long, c_void, off_t, size_t, ssize_t, syscall};
use shoal_tests::power::tap;
use std::ffi::CStr;
use std::slice;

fn short(done: c_long) -> c_int {
    c_int::try_from(done).unwrap_or(-1)
}

fn size(done: c_long) -> isize {
    isize::try_from(done).unwrap_or(-1)
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, from: *const c_void, bytes: size_t) -> ssize_t {
    // SAFETY: the caller's own arguments, for the duration of its call.
    unsafe {
        let at = || libc::lseek(fd, 0, libc::SEEK_CUR);
        let seen = if from.is_null() { &[] } else { slice::from_raw_parts(from.cast::<u8>(), bytes) };
        tap::on_write(fd, at, seen, || size(syscall(libc::SYS_write, fd, from, bytes)))
    }
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, from: *const c_void, bytes: size_t, at: off_t) -> ssize_t {
    // SAFETY: the caller's own arguments, for the duration of its call.
    unsafe {
        let seen = if from.is_null() { &[] } else { slice::from_raw_parts(from.cast::<u8>(), bytes) };
        tap::on_write(fd, || at, seen, || size(syscall(libc::SYS_pwrite64, fd, from, bytes, at)))
    }
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, bytes: size_t, at: off_t) -> ssize_t {
    // SAFETY: the same function by its older name.
    unsafe { pwrite64(fd, from, bytes, at) }
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, len: off_t) -> c_int {
    // SAFETY: the caller's own arguments, for the duration of its call.
    let done = tap::on_truncate(fd, len, || unsafe { size(syscall(libc::SYS_ftruncate, fd, len)) });
    c_int::try_from(done).unwrap_or(-1)
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(fd: c_int, len: off_t) -> c_int {
    // SAFETY: the same function by its older name.
    unsafe { ftruncate64(fd, len) }
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    if tap::on_sync(fd) {
        return 0;
    }
    // SAFETY: the caller's own argument.
    short(unsafe { syscall(libc::SYS_fsync, fd) })
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    if tap::on_sync(fd) {
        return 0;
    }
    // SAFETY: the caller's own argument.
    short(unsafe { syscall(libc::SYS_fdatasync, fd) })
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's own string, for the duration of its call.
    unsafe {
        let name = CStr::from_ptr(path).to_bytes();
        tap::on_unlink(name, || short(syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0)))
    }
}

/// # Safety
/// As of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's own strings, for the duration of its call.
    unsafe {
        let (old, new) = (CStr::from_ptr(from).to_bytes(), CStr::from_ptr(to).to_bytes());
        let here = libc::AT_FDCWD;
        tap::on_rename(old, new, || short(syscall(libc::SYS_renameat2, here, from, here, to, 0)))
    }
}
