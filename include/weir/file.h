/*
 * Files: open, read and write at an offset, make sure it is on the disk. What else there is to do with one (weir_read, weir_write,
 * weir_close_fd) is in io.h. Go: os.File.
 *
 * What the kernel cannot say the readiness of is asked for on a thread that may block, while the processor goes to others. At most
 * 64 such calls run at once; more wait for their turn. A call looks at the current context before it asks the disk, and while it waits for
 * its turn: then -ECANCELED or -ETIMEDOUT, and nothing has been done. What the disk has been asked for is waited for, as in Go.
 *
 * weir_close_fd waits for such calls: the number is given back when the last of them has returned.
 */
#ifndef WEIR_FILE_H
#define WEIR_FILE_H

WEIR_BEGIN_

/*
 * int weir_open(const char *path, int flags, ... mode_t mode): open(2), and O_CLOEXEC. The descriptor, the caller's, to be closed by
 * weir_close_fd; any error of open(2), negated (-ENOENT, -EACCES, …); -ENOMEM. mode is needed, and looked at, with O_CREAT and O_TMPFILE.
 * What it opens is used as any other descriptor: a FIFO or a terminal is waited on, a regular file is not.
 *
 * Blocks; cancellable as said above. A FIFO whose other end nobody has opened, and a terminal without a line, hold a thread until
 * somebody comes, outside of the 64, and are not cancellable then: O_RDWR or O_NONBLOCK opens a FIFO at once.
 * Go: os.OpenFile.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_open(const char *path, int flags, ...);

/* Read n bytes from `offset` on, in bytes from the file's beginning; its own position stays. The number read: fewer than n only at the end
 * of the file (0: it is there or beyond) or if an error came after the first byte, which the next call tells. Any error of
 * pread(2), negated: -ESPIPE: a pipe, socket or terminal; -EISDIR; -EINVAL: a negative offset; -EIO; -EBADF as in io.h. What is in memory is read
 * at once. Blocks; cancellable as said above. Go: File.ReadAt. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_pread(int fd, void *buffer, size_t n, int64_t offset);

/* Write n bytes at `offset`, beyond the end too; the file's own position stays. A file opened with O_APPEND is written at its end, whatever the
 * offset. The number written: fewer than n only if there was no room or an error came after the first byte. Any error of pwrite(2), negated:
 * -ENOSPC, -EFBIG, and those of weir_pread. Blocks; cancellable as said above. Go: File.WriteAt. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_pwrite(int fd, const void *data, size_t n, int64_t offset);

/* Return when all that was written to the file is on the disk. 0; any error of fsync(2), negated: -EIO, -ENOSPC; -EINVAL: no file;
 * -EBADF. Blocks; cancellable as said above, so -ECANCELED means that it may not be there. Go: File.Sync. */
WEIR_API_ WEIR_MUST_USE_ int weir_fsync(int fd);

WEIR_END_

#endif
