/*
 * Lets a user-mode Linux 6.1 run on processors with more registers than it knows.
 *
 * It sets the registers of its processes by PTRACE_SETREGSET, from a buffer as large as the state of
 * AVX-512 and protection keys (arch/x86/um/user-offsets.c, HOST_XSTATE_SIZE).  Where the processor has
 * AMX, the host's kernel takes nothing smaller than all of its state (arch/x86/kernel/fpu/regset.c,
 * xstateregs_set), and the first process dies: "ptrace set fp regs failed, errno = 14".  What the
 * buffer lacks is of registers that nobody in there uses: they stay as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long ptrace_call(enum __ptrace_request, pid_t, void *, void *);

/* Looks at no errno: a signal's handler in between, of which this kernel has many, leaves another. */
static long set_all(ptrace_call *call, pid_t pid, void *set, struct iovec *given)
{
	/* Not on the stack: that of a thread of this kernel is small. */
	static char all[65536];
	struct iovec whole = { .iov_base = all, .iov_len = sizeof(all) };

	if (call(PTRACE_GETREGSET, pid, set, &whole) < 0)
		return -1;
	if (given->iov_len >= whole.iov_len)
		return call(PTRACE_SETREGSET, pid, set, given);
	memcpy(all, given->iov_base, given->iov_len);
	return call(PTRACE_SETREGSET, pid, set, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_call *next;
	va_list rest;

	va_start(rest, request);
	pid_t pid = va_arg(rest, pid_t);
	void *address = va_arg(rest, void *);
	void *data = va_arg(rest, void *);
	va_end(rest);

	if (!next)
		next = (ptrace_call *)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
		return set_all(next, pid, address, data);
	return next(request, pid, address, data);
}
