#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
__attribute__((noreturn)) void __assert_fail(const char *what, const char *file, unsigned line, const char *function);
#define assert(condition) ((condition) ? (void)0 : __assert_fail(#condition, __FILE__, __LINE__, __func__))
#endif
