//! Giving memory back: for processes that do much once and then wait for hours.

use std::ffi::c_void;

#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;
#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;

/// Unmaps the pages of the program's own code and constants (`MADV_DONTNEED`, madvise(2)), and returns
/// free heap to the kernel (malloc_trim(3)). What is needed again is faulted in from the page cache.
///
/// The kernel maps sixteen pages around each one that is touched, so a process that ran through much code
/// once counts megabytes of it as its own for ever. Best effort: failures change nothing.
pub fn release_unused() {
    let segments = constant_segments();
    // SAFETY: no arguments that could be wrong; the allocator is usable, for no signal handler is running.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    // Last, for what runs after it is mapped again.
    for segment in &segments {
        // SAFETY: the range lies within a private file mapping of our own program that is mapped without
        // write permission and never relocated (a segment without PF_W), so none of its pages differs
        // from the file: dropping them loses nothing, whatever code or data of it is in use.
        unsafe { libc::madvise(segment.0 as *mut c_void, segment.1, libc::MADV_DONTNEED) };
    }
}

/// Address and length, in whole pages, of the loaded segments that are not writable.
fn constant_segments() -> Vec<(usize, usize)> {
    // SAFETY: getauxval(3) has no preconditions.
    let (table, count) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_PHNUM),
        )
    };
    if table == 0 {
        return Vec::new();
    }
    // SAFETY: the kernel put the address and the number of our program headers into the auxiliary vector;
    // they lie in the first segment, which stays mapped and constant for the life of the process.
    let headers =
        unsafe { std::slice::from_raw_parts(table as *const ProgramHeader, count as usize) };
    let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) else {
        return Vec::new();
    };
    let bias = table as usize - own.p_vaddr as usize;
    let page = rustix::param::page_size();
    headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0)
        .map(|header| {
            let start = (bias + header.p_vaddr as usize).next_multiple_of(page);
            let end = (bias + header.p_vaddr as usize + header.p_filesz as usize) / page * page;
            (start, end.saturating_sub(start))
        })
        .filter(|(_, len)| *len > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped_here(address: usize) -> bool {
        let (mut vec, page) = ([0u8; 1], rustix::param::page_size());
        // SAFETY: mincore(2) only writes one byte per page into `vec`, which has room for the one page asked.
        unsafe {
            libc::mincore(
                (address / page * page) as *mut c_void,
                page,
                vec.as_mut_ptr(),
            ) == 0
        }
    }

    #[test]
    fn the_program_goes_on() {
        let segments = constant_segments();
        let code = release_unused as fn() as usize;
        assert!(
            segments
                .iter()
                .any(|(start, len)| (*start..start + len).contains(&code)),
            "{segments:x?}"
        );
        let text = String::from("still here");
        for _ in 0..3 {
            release_unused();
            assert!(mapped_here(code));
            assert_eq!(text, "still here");
        }
    }
}
