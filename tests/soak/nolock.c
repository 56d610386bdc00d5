/* Loaded before the C library: a network file system that knows no locks. */
#include <errno.h>

int flock(int descriptor, int operation)
{
    (void)descriptor;
    (void)operation;
    errno = ENOLCK;
    return -1;
}
