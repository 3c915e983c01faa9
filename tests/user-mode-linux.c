/*
 * Lets a user-mode Linux 6.1 run on processors with more registers than it knows.
 *
 * It sets the registers of its processes by PTRACE_SETREGSET, from a buffer as large as the state of
 * AVX-512 and protection keys (arch/x86/um/user-offsets.c, HOST_XSTATE_SIZE).  Where the processor has
 * AMX, the host's kernel takes nothing smaller than all of its state (arch/x86/kernel/fpu/regset.c,
 * xstateregs_set), and the first process dies: "ptrace set fp regs failed, errno = 14".  What the
 * buffer lacks is of registers that nobody in there uses: the state's own header says so.
 *
 * It also sets them each time it lets a process go on, though they seldom differ from what it got
 * when the process stopped; then nothing is set, which takes a good part of each system call's time.
 *
 * Nothing here looks at errno: a signal's handler in between, of which this kernel has many, leaves
 * another.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* More than its buffer, and more than any processor's state. */
#define GIVEN 8192
#define WHOLE 65536

typedef long ptrace_call(enum __ptrace_request, pid_t, void *, void *);

/* The registers of a process that is stopped, where they are known. */
static struct known {
	pid_t pid;
	size_t length;
	char state[GIVEN];
} table[512];

static struct known *known_of(pid_t pid)
{
	return &table[pid % (sizeof(table) / sizeof(table[0]))];
}

static void forget(pid_t pid)
{
	if (known_of(pid)->pid == pid)
		known_of(pid)->pid = 0;
}

static void remember(pid_t pid, const struct iovec *data)
{
	struct known *known = known_of(pid);

	if (data->iov_len > GIVEN)
		return forget(pid);
	memcpy(known->state, data->iov_base, data->iov_len);
	known->length = data->iov_len;
	known->pid = pid;
}

static int is_known(pid_t pid, const struct iovec *data)
{
	const struct known *known = known_of(pid);

	return known->pid == pid && known->length == data->iov_len &&
	       memcmp(known->state, data->iov_base, data->iov_len) == 0;
}

static long set(ptrace_call *call, pid_t pid, void *type, struct iovec *data)
{
	/* Not on the stack: that of a thread of this kernel is small. */
	static char whole[WHOLE];
	static size_t length;
	struct iovec all = { .iov_base = whole, .iov_len = sizeof(whole) };

	if (is_known(pid, data))
		return 0;
	forget(pid);
	if (!length) {
		if (call(PTRACE_GETREGSET, pid, type, &all) < 0)
			return -1;
		length = all.iov_len;
		memset(whole, 0, sizeof(whole));
	}
	if (data->iov_len >= length)
		return call(PTRACE_SETREGSET, pid, type, data);
	memcpy(whole, data->iov_base, data->iov_len);
	all.iov_len = length;
	return call(PTRACE_SETREGSET, pid, type, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_call *next;
	va_list rest;
	long result;

	va_start(rest, request);
	pid_t pid = va_arg(rest, pid_t);
	void *address = va_arg(rest, void *);
	void *data = va_arg(rest, void *);
	va_end(rest);

	if (!next)
		next = (ptrace_call *)dlsym(RTLD_NEXT, "ptrace");
	switch (request) {
	case PTRACE_GETREGSET:
		result = next(request, pid, address, data);
		if (result == 0 && address == (void *)NT_X86_XSTATE)
			remember(pid, data);
		return result;
	case PTRACE_SETREGSET:
		if (address == (void *)NT_X86_XSTATE)
			return set(next, pid, address, data);
		break;
	case PTRACE_GETREGS:
	case PTRACE_SETREGS:
		/* The others. */
		break;
	default:
		/* It goes on, or is a new one of an old number. */
		forget(pid);
	}
	return next(request, pid, address, data);
}
