#ifndef _PTHREAD_H
#define _PTHREAD_H
#include <stddef.h>
#include <time.h>
#include <sched.h>
typedef struct __thread_block *pthread_t;
typedef struct { size_t __stack_size; } pthread_attr_t;
typedef struct { int __futex; } pthread_mutex_t; /* 0 free, 1 held, 2 held and waited for */
typedef struct { int __sequence; } pthread_cond_t;
typedef struct { int __state; } pthread_once_t;
typedef struct { pthread_mutex_t __lock; pthread_cond_t __turn; unsigned __needed, __waiting, __round; } pthread_barrier_t;
typedef struct { int __unused; } pthread_mutexattr_t, pthread_condattr_t, pthread_barrierattr_t;
#define PTHREAD_MUTEX_INITIALIZER { 0 }
#define PTHREAD_COND_INITIALIZER { 0 }
#define PTHREAD_ONCE_INIT { 0 }
#define PTHREAD_BARRIER_SERIAL_THREAD (-1)
int pthread_attr_init(pthread_attr_t *attributes);
int pthread_attr_destroy(pthread_attr_t *attributes);
int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size);
int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*function)(void *), void *restrict argument);
int pthread_join(pthread_t thread, void **value);
__attribute__((noreturn)) void pthread_exit(void *value);
pthread_t pthread_self(void);
int pthread_equal(pthread_t a, pthread_t b);
int pthread_once(pthread_once_t *once, void (*function)(void));
int pthread_mutex_init(pthread_mutex_t *restrict mutex, const pthread_mutexattr_t *restrict attributes);
int pthread_mutex_destroy(pthread_mutex_t *mutex);
int pthread_mutex_lock(pthread_mutex_t *mutex);
int pthread_mutex_trylock(pthread_mutex_t *mutex);
int pthread_mutex_unlock(pthread_mutex_t *mutex);
int pthread_cond_init(pthread_cond_t *restrict cond, const pthread_condattr_t *restrict attributes);
int pthread_cond_destroy(pthread_cond_t *cond);
int pthread_cond_wait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex);
int pthread_cond_signal(pthread_cond_t *cond);
int pthread_cond_broadcast(pthread_cond_t *cond);
int pthread_barrier_init(pthread_barrier_t *restrict barrier, const pthread_barrierattr_t *restrict attributes, unsigned count);
int pthread_barrier_destroy(pthread_barrier_t *barrier);
int pthread_barrier_wait(pthread_barrier_t *barrier);
#endif
