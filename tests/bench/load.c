/* An SMTP submission client that measures: kept connections, one message after another on each.
 *
 *   cc -O2 -o load load.c -lssl -lcrypto
 *   ./load -h 127.0.0.1 -p 2587 -u USER -w PASSWORD -f from@a -t to@b -c 40 -n 20000 -m message.eml
 *
 *   -c  connections                      -n  messages in all
 *   -m  file with the message; @SEQ@ in it becomes the message's number
 *   -T  STARTTLS before the login; the certificate is not looked at
 *   -P  MAIL, RCPT and DATA in one write, where the server offers PIPELINING
 *   -r  messages after which a connection is closed and another opened; 0: never
 *
 * Latency is from MAIL to the reply to the data.  One line of figures is printed; the exit code is 0 if every
 * message got 250.  The first refusal is told on standard error.  A refused message is counted and its
 * connection opened anew; a connection that does not get as far as a message ends the run.
 *
 * One thread and epoll: the client shares the processors with what it measures, and one wake-up that serves
 * several connections costs less than a thread woken for each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PLACEHOLDER "@SEQ@"
#define EVENTS 64
#define SILENCE_SECONDS 60

/* What a connection waits for the reply to, and the code that lets it go on. */
enum step { GREETING, HELLO, STARTTLS, LOGIN, MAIL, RCPT, DATA, CONTENT, GOODBYE };
static const int wanted[] = {220, 250, 220, 235, 250, 250, 354, 250, 221};
static const char *const names[] = {"the greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA",
                                    "the data", "QUIT"};

struct connection {
    int fd;
    SSL *tls; /* NULL before STARTTLS */
    enum step step;
    bool offers_pipelining, waits_to_write;
    long messages, number; /* over this connection; the current one's, from 1 */
    double begun;  /* when MAIL of the current message was said */
    char in[4096];
    size_t in_bytes;
    char *out; /* room for the longest thing said: a whole message */
    size_t out_bytes, out_done;
};

static struct {
    const char *host, *port, *user, *password, *from, *to, *file;
    long connections, messages, reconnect_after;
    bool tls, pipeline;
} options = {.host = "127.0.0.1", .port = "587", .from = "a@example.com", .to = "b@example.net", .connections = 10,
             .messages = 1000};

static char *message; /* with CRLF line ends, dots doubled and the last dot */
static size_t message_bytes, room_bytes;
static struct addrinfo *address;
static SSL_CTX *tls_context;
static int poller;
static long begun_messages, accepted, refused, opened, open_now;
static bool stopped;
static double *latencies;

static double seconds_now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(2);
}

static void *allocate(size_t bytes) {
    void *room = calloc(1, bytes ? bytes : 1);
    if (!room) die("out of memory");
    return room;
}

/* ------------------------------------------------------------ the message */

/* The file as it goes over the wire (RFC 5321 section 4.5.2). */
static void read_message(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die("%s: %s", path, strerror(errno));
    fseek(file, 0, SEEK_END);
    size_t length = (size_t)ftell(file), at = 0;
    rewind(file);
    char *raw = allocate(length);
    if (fread(raw, 1, length, file) != length) die("%s: cannot be read", path);
    fclose(file);
    message = allocate(2 * length + 8);
    for (size_t i = 0; i < length; i++) {
        bool begins_line = i == 0 || raw[i - 1] == '\n';
        if (raw[i] == '.' && begins_line) message[at++] = '.';
        if (raw[i] == '\n' && (i == 0 || raw[i - 1] != '\r')) message[at++] = '\r';
        message[at++] = raw[i];
    }
    if (at < 2 || memcmp(message + at - 2, "\r\n", 2)) at += (size_t)sprintf(message + at, "\r\n");
    message_bytes = at + (size_t)sprintf(message + at, ".\r\n");
    free(raw);
}

/* Room for the message with its number wherever the placeholder stands, and for any command. */
static size_t room_for_message(void) {
    size_t places = 0;
    for (const char *p = message; (p = memmem(p, message_bytes - (size_t)(p - message), PLACEHOLDER, 5)); p += 5)
        places++;
    return message_bytes + 20 * places + 4096;
}

static size_t write_message(char *to, long number) {
    const char *from = message, *end = message + message_bytes, *place;
    char *at = to;
    while ((place = memmem(from, (size_t)(end - from), PLACEHOLDER, 5))) {
        at = mempcpy(at, from, (size_t)(place - from));
        at += sprintf(at, "%ld", number);
        from = place + 5;
    }
    return (size_t)((char *)mempcpy(at, from, (size_t)(end - from)) - to);
}

/* ------------------------------------------------------------ connections */

static void watch(struct connection *c, int operation, bool to_write) {
    struct epoll_event event = {.events = EPOLLIN | (to_write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event)) die("epoll: %s", strerror(errno));
    c->waits_to_write = to_write;
}

static void dial(struct connection *c) {
    int yes = 1;
    c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(c->fd, address->ai_addr, address->ai_addrlen) && errno != EINPROGRESS)
        die("%s:%s: %s", options.host, options.port, strerror(errno));
    c->step = GREETING;
    c->messages = 0;
    c->in_bytes = c->out_bytes = c->out_done = 0;
    opened++;
    open_now++;
    watch(c, EPOLL_CTL_ADD, false);
}

static void hang_up(struct connection *c) {
    SSL_free(c->tls);
    c->tls = NULL;
    close(c->fd); /* which takes it from the poller too */
    c->fd = -1;
    open_now--;
    if (!stopped && begun_messages < options.messages) dial(c);
}

/* The reply, or what befell the connection, was not what lets it go on. */
static void give_up(struct connection *c, const char *why) {
    if (c->step == GOODBYE) return hang_up(c);
    if (!refused && !stopped) fprintf(stderr, "load: at %s: %s\n", names[c->step], why);
    if (c->step < MAIL) stopped = true;
    else refused++;
    hang_up(c);
}

/* ------------------------------------------------------------ octets */

static ssize_t put(struct connection *c, const char *octets, size_t bytes) {
    return c->tls ? SSL_write(c->tls, octets, (int)bytes) : send(c->fd, octets, bytes, MSG_NOSIGNAL);
}

static ssize_t get(struct connection *c, char *room, size_t bytes) {
    return c->tls ? SSL_read(c->tls, room, (int)bytes) : recv(c->fd, room, bytes, 0);
}

enum trouble { LATER_READ, LATER_WRITE, BROKEN };

/* Why put or get did nothing. */
static enum trouble trouble_of(struct connection *c, ssize_t result, bool writing) {
    if (!c->tls) return result < 0 && errno == EAGAIN ? (writing ? LATER_WRITE : LATER_READ) : BROKEN;
    switch (SSL_get_error(c->tls, (int)result)) {
    case SSL_ERROR_WANT_READ: return LATER_READ;
    case SSL_ERROR_WANT_WRITE: return LATER_WRITE;
    default: ERR_clear_error(); return BROKEN;
    }
}

/* Send what is left to say; false if the connection is broken. */
static bool flush(struct connection *c) {
    while (c->out_done < c->out_bytes) {
        ssize_t done = put(c, c->out + c->out_done, c->out_bytes - c->out_done);
        if (done > 0) {
            c->out_done += (size_t)done;
            continue;
        }
        enum trouble trouble = trouble_of(c, done, true);
        if (trouble == BROKEN) return false;
        bool to_write = trouble == LATER_WRITE;
        if (to_write != c->waits_to_write) watch(c, EPOLL_CTL_MOD, to_write);
        return true;
    }
    if (c->waits_to_write) watch(c, EPOLL_CTL_MOD, false);
    return true;
}

static void say(struct connection *c, enum step step, const char *format, ...) {
    va_list values;
    va_start(values, format);
    c->out_bytes = (size_t)vsnprintf(c->out, room_bytes, format, values);
    va_end(values);
    c->out_done = 0;
    c->step = step;
}

/* ------------------------------------------------------------ the dialogue */

static void log_in(struct connection *c) {
    unsigned char plain[700], encoded[1000];
    int bytes = snprintf((char *)plain, sizeof plain, "%c%s%c%s", 0, options.user, 0, options.password);
    if (bytes >= (int)sizeof plain) die("user and password are too long");
    EVP_EncodeBlock(encoded, plain, bytes);
    say(c, LOGIN, "AUTH PLAIN %s\r\n", encoded);
}

static void begin_message(struct connection *c) {
    bool enough = options.reconnect_after && c->messages == options.reconnect_after;
    if (stopped || enough || begun_messages == options.messages) return say(c, GOODBYE, "QUIT\r\n");
    c->number = ++begun_messages;
    c->messages++;
    c->begun = seconds_now();
    if (options.pipeline && c->offers_pipelining)
        say(c, MAIL, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", options.from, options.to);
    else
        say(c, MAIL, "MAIL FROM:<%s>\r\n", options.from);
}

static void secure(struct connection *c) {
    c->tls = SSL_new(tls_context);
    if (!c->tls || !SSL_set_fd(c->tls, c->fd)) die("no TLS");
    SSL_set_connect_state(c->tls);
}

/* The reply was the one wanted: say what comes next. */
static void go_on(struct connection *c) {
    bool said = options.pipeline && c->offers_pipelining; /* RCPT and DATA went with MAIL */
    switch (c->step) {
    case GREETING: say(c, HELLO, "EHLO load.example\r\n"); break;
    case HELLO:
        if (options.tls && !c->tls) say(c, STARTTLS, "STARTTLS\r\n");
        else if (options.user) log_in(c);
        else begin_message(c);
        break;
    case STARTTLS:
        secure(c);
        say(c, HELLO, "EHLO load.example\r\n");
        break;
    case LOGIN: begin_message(c); break;
    case MAIL:
        if (said) c->step = RCPT;
        else say(c, RCPT, "RCPT TO:<%s>\r\n", options.to);
        break;
    case RCPT:
        if (said) c->step = DATA;
        else say(c, DATA, "DATA\r\n");
        break;
    case DATA:
        c->out_bytes = write_message(c->out, c->number);
        c->out_done = 0;
        c->step = CONTENT;
        break;
    case CONTENT:
        latencies[accepted++] = seconds_now() - c->begun;
        begin_message(c);
        break;
    case GOODBYE: break;
    }
}

/* One line of a reply, without its line end; false if the connection cannot go on. */
static bool take_line(struct connection *c, const char *line) {
    int code = atoi(line);
    if (c->step == HELLO && strlen(line) > 4 && !strcasecmp(line + 4, "PIPELINING")) c->offers_pipelining = true;
    if (code == wanted[c->step] && strlen(line) > 3 && line[3] == '-') return true;
    if (code != wanted[c->step] || c->step == GOODBYE) {
        give_up(c, line);
        return false;
    }
    go_on(c);
    if (flush(c)) return true;
    give_up(c, "the connection broke");
    return false;
}

/* Take the whole lines that have come; false if the connection is gone. */
static bool take_lines(struct connection *c) {
    char *line = c->in, *end;
    while ((end = memchr(line, '\n', (size_t)(c->in + c->in_bytes - line)))) {
        *end = 0;
        if (end > line && end[-1] == '\r') end[-1] = 0;
        if (!take_line(c, line)) return false;
        line = end + 1;
    }
    c->in_bytes -= (size_t)(line - c->in);
    memmove(c->in, line, c->in_bytes);
    return true;
}

static void serve(struct connection *c) {
    if (c->out_done < c->out_bytes && !flush(c)) return give_up(c, "the connection broke");
    do {
        if (c->in_bytes == sizeof c->in) return give_up(c, "a line too long");
        errno = 0;
        ssize_t got = get(c, c->in + c->in_bytes, sizeof c->in - c->in_bytes);
        if (got <= 0) {
            if (trouble_of(c, got, false) != BROKEN) return;
            return give_up(c, errno ? strerror(errno) : "the connection was closed");
        }
        c->in_bytes += (size_t)got;
        if (!take_lines(c)) return;
    } while (c->tls && SSL_pending(c->tls)); /* what OpenSSL holds, the poller does not see */
}

static void run(void) {
    struct epoll_event events[EVENTS];
    while (open_now) {
        int count = epoll_wait(poller, events, EVENTS, SILENCE_SECONDS * 1000);
        if (count < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
        if (count == 0) {
            fprintf(stderr, "load: nothing came for %d s\n", SILENCE_SECONDS);
            return;
        }
        for (int i = 0; i < count; i++) serve(events[i].data.ptr);
    }
}

/* ------------------------------------------------------------ figures */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The latency that a share of the accepted messages did not exceed. */
static double percentile_ms(double share) {
    if (!accepted) return 0;
    long rank = (long)(share * (double)accepted);
    return latencies[rank < accepted ? rank : accepted - 1] * 1e3;
}

static void print_figures(double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(latencies, (size_t)accepted, sizeof *latencies, by_size);
    printf("messages=%ld ok=%ld failed=%ld connections=%ld seconds=%.3f rate=%.1f/s p50=%.2fms p95=%.2fms "
           "p99=%.2fms max=%.2fms cpu=%.3fms\n",
           options.messages, accepted, options.messages - accepted, opened, seconds, (double)accepted / seconds,
           percentile_ms(.5), percentile_ms(.95), percentile_ms(.99), percentile_ms(1),
           cpu / (double)options.messages * 1e3);
}

static long number_of(const char *text, long least) {
    char *end;
    long number = strtol(text, &end, 10);
    if (*end || end == text || number < least) die("%s: a number of at least %ld is wanted", text, least);
    return number;
}

static void read_options(int count, char **values) {
    int option;
    while ((option = getopt(count, values, "h:p:u:w:f:t:m:c:n:r:TP")) != -1) switch (option) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = optarg; break;
        case 'u': options.user = optarg; break;
        case 'w': options.password = optarg; break;
        case 'f': options.from = optarg; break;
        case 't': options.to = optarg; break;
        case 'm': options.file = optarg; break;
        case 'c': options.connections = number_of(optarg, 1); break;
        case 'n': options.messages = number_of(optarg, 1); break;
        case 'r': options.reconnect_after = number_of(optarg, 0); break;
        case 'T': options.tls = true; break;
        case 'P': options.pipeline = true; break;
        default: exit(2);
        }
    if (!options.file) die("-m FILE is needed");
    if (options.user && !options.password) die("-w PASSWORD is needed with -u");
}

static void prepare(void) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int trouble = getaddrinfo(options.host, options.port, &hints, &address);
    if (trouble) die("%s:%s: %s", options.host, options.port, gai_strerror(trouble));
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll: %s", strerror(errno));
    if (options.tls) {
        if (!(tls_context = SSL_CTX_new(TLS_client_method()))) die("no TLS");
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
    read_message(options.file);
    room_bytes = room_for_message();
    latencies = allocate((size_t)options.messages * sizeof *latencies);
}

int main(int count, char **values) {
    read_options(count, values);
    prepare();
    double started = seconds_now();
    for (long i = 0; i < options.connections && i < options.messages; i++) {
        struct connection *c = allocate(sizeof *c);
        c->out = allocate(room_bytes);
        dial(c);
    }
    run();
    print_figures(seconds_now() - started);
    return accepted == options.messages ? 0 : 1;
}
