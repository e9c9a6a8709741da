#ifndef _STDIO_H
#define _STDIO_H
#include <stddef.h>
#include <stdarg.h>
#include <sys/types.h>
#define EOF (-1)
#define BUFSIZ 4096
#define _IOFBF 0
#define _IOLBF 1
#define _IONBF 2
#define SEEK_SET 0
#define SEEK_CUR 1
#define SEEK_END 2
typedef struct __file FILE;
extern FILE *const stdin, *const stdout, *const stderr;
#define stdin stdin
#define stdout stdout
#define stderr stderr
#define __printf_like(pattern, first) __attribute__((format(printf, pattern, first)))
int printf(const char *restrict format, ...) __printf_like(1, 2);
int fprintf(FILE *restrict file, const char *restrict format, ...) __printf_like(2, 3);
int dprintf(int fd, const char *restrict format, ...) __printf_like(2, 3);
int sprintf(char *restrict to, const char *restrict format, ...) __printf_like(2, 3);
int snprintf(char *restrict to, size_t size, const char *restrict format, ...) __printf_like(3, 4);
int vprintf(const char *restrict format, va_list list);
int vfprintf(FILE *restrict file, const char *restrict format, va_list list);
int vsprintf(char *restrict to, const char *restrict format, va_list list);
int vsnprintf(char *restrict to, size_t size, const char *restrict format, va_list list);
#define __scanf_like(pattern, first) __attribute__((format(scanf, pattern, first)))
int scanf(const char *restrict format, ...) __scanf_like(1, 2);
int fscanf(FILE *restrict file, const char *restrict format, ...) __scanf_like(2, 3);
int sscanf(const char *restrict from, const char *restrict format, ...) __scanf_like(2, 3);
int vscanf(const char *restrict format, va_list list);
int vfscanf(FILE *restrict file, const char *restrict format, va_list list);
int vsscanf(const char *restrict from, const char *restrict format, va_list list);
FILE *fopen(const char *restrict path, const char *restrict mode);
FILE *fdopen(int fd, const char *mode);
int fclose(FILE *file);
int fflush(FILE *file);
int setvbuf(FILE *restrict file, char *restrict buffer, int mode, size_t size);
void setbuf(FILE *restrict file, char *restrict buffer);
size_t fread(void *restrict to, size_t size, size_t count, FILE *restrict file);
size_t fwrite(const void *restrict from, size_t size, size_t count, FILE *restrict file);
char *fgets(char *restrict to, int size, FILE *restrict file);
int fgetc(FILE *file);
int getc(FILE *file);
int getchar(void);
int ungetc(int c, FILE *file);
int fputc(int c, FILE *file);
int putc(int c, FILE *file);
int putchar(int c);
int fputs(const char *restrict s, FILE *restrict file);
int puts(const char *s);
int fseek(FILE *file, long offset, int whence);
long ftell(FILE *file);
void rewind(FILE *file);
int feof(FILE *file);
int ferror(FILE *file);
void clearerr(FILE *file);
int fileno(FILE *file);
void perror(const char *what);
int remove(const char *path);
int rename(const char *from, const char *to);
#endif
