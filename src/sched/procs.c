/* How many processors to use, and changing that while running. */
#include "sched/inner.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* The first line of a file below the cgroup mount, or false. */
static bool cgroup_line(const char *dir, const char *file, char *line, int size) {
    char path[1024];
    if (snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", dir, file) >= (int)sizeof path) return false;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

static void narrow(int *cpus, double quota, double period) {
    if (quota <= 0 || period <= 0) return;
    int n = (int)(quota / period);
    if ((double)n * period < quota) n++; /* 1.5 CPUs: two threads, throttled a little */
    if (n >= 1 && n < *cpus) *cpus = n;
}

/* The CPU quota of our cgroup and of each above it, version 2 (cpu.max) or 1 (cpu.cfs_quota_us). */
static void obey_cgroup(int *cpus) {
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return;
    char entry[1024];
    while (fgets(entry, sizeof entry, f)) {
        char *controllers = strchr(entry, ':'), *dir = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!dir) continue;
        *dir++ = '\0';
        controllers++;
        dir[strcspn(dir, "\n")] = '\0';
        bool v2 = *controllers == '\0', v1 = strstr(controllers, "cpu") && !strstr(controllers, "cpuset");
        if (!v2 && !v1) continue;
        if (!strcmp(dir, "/")) *dir = '\0';
        for (char *end = dir + strlen(dir);; *end = '\0') {
            char line[128], full[1024];
            double quota, period;
            if (v2) {
                if (cgroup_line(dir, "cpu.max", line, sizeof line) && sscanf(line, "%lf %lf", &quota, &period) == 2)
                    narrow(cpus, quota, period);
            } else {
                snprintf(full, sizeof full, "/%s%s", "cpu", dir);
                if (cgroup_line(full, "cpu.cfs_quota_us", line, sizeof line) && sscanf(line, "%lf", &quota) == 1 &&
                    cgroup_line(full, "cpu.cfs_period_us", line, sizeof line) && sscanf(line, "%lf", &period) == 1)
                    narrow(cpus, quota, period);
            }
            if (!(end = strrchr(dir, '/'))) break;
        }
    }
    fclose(f);
}

int wr_default_procs(void) {
    const char *env = getenv("WEIR_PROCS");
    if (env && *env) {
        char *end;
        long n = strtol(env, &end, 10);
        if (*end == '\0' && n >= 1 && n <= WR_MAX_PROCS) return (int)n;
        wr_warn("WEIR_PROCS=%s: not a number from 1 to %d; ignored", env, WR_MAX_PROCS);
    }
    cpu_set_t *set = CPU_ALLOC(4096);
    size_t size = CPU_ALLOC_SIZE(4096);
    int cpus = 1;
    if (set && sched_getaffinity(0, size, set) == 0) cpus = CPU_COUNT_S(size, set);
    if (set) CPU_FREE(set);
    obey_cgroup(&cpus);
    return cpus < 1 ? 1 : cpus > WR_MAX_PROCS ? WR_MAX_PROCS : cpus;
}

struct p *wr_p_make(int id) {
    struct p *p = aligned_alloc(WR_CACHE_LINE, (sizeof *p + WR_CACHE_LINE - 1) / WR_CACHE_LINE * WR_CACHE_LINE);
    if (!p) return NULL;
    memset(p, 0, sizeof *p);
    p->id = id;
    p->random = (uint64_t)wr_now() * 2654435761u + (uint64_t)id;
    atomic_init(&p->timers.first, WR_NEVER);
    atomic_store_explicit(&wr_sched.ps[id], p, memory_order_release);
    atomic_store_explicit(&wr_sched.made_ps, id + 1, memory_order_release);
    return p;
}

/* The caller's own P may be beyond the number in use now: what it readies from here on is to go where it will be run. The others
 * notice at their next scheduling point. */
static void give_way_if_beyond(void) {
    struct m *m = wr_m();
    if (!m || !m->g) return;
    int saved_errno = errno;
    struct p *p = wr_enter(m);
    if (p && p->id >= atomic_load_explicit(&wr_sched.procs, memory_order_relaxed)) wr_requeue_away(m->g);
    wr_leave(wr_m());
    errno = saved_errno;
}

int weir_procs(int n) {
    if (n < 0) return -EINVAL;
    if (!atomic_load(&wr_sched.running)) return n == 0 ? wr_default_procs() : -EPERM;
    if (n > WR_MAX_PROCS) n = WR_MAX_PROCS;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    int old = atomic_load(&wr_sched.procs);
    if (n > 0) {
        while (atomic_load(&wr_sched.made_ps) < n) {
            struct p *p = wr_p_make(atomic_load(&wr_sched.made_ps));
            if (!p) n = atomic_load(&wr_sched.made_ps);
            else p->retired = true;
        }
        atomic_store(&wr_sched.procs, n);
        for (int i = 0; i < n; i++)
            if (wr_sched.ps[i]->retired) {
                wr_sched.ps[i]->retired = false;
                wr_put_idle_p(wr_sched.ps[i]);
            }
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_wake_worker();
    give_way_if_beyond();
    return old;
}
