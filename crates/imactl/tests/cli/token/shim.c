/*
 * A PKCS#11 module in front of another (SHIM_MODULE): passes all on, but behaves as tokens
 * do that SoftHSM is not, as the environment says.
 *
 *   SHIM_LOG=FILE         a line for each login
 *   SHIM_REMOVED_AFTER=N  the token is gone after N signatures
 *   SHIM_SESSIONS=N       no more sessions than that
 *   SHIM_CANT_LOCK=1      for programs with one thread; two calls at a time abort
 *   SHIM_PIN_PAD=PIN      the PIN is typed at the device, and is this one
 *   SHIM_FLAGS=N          more flags of CK_TOKEN_INFO
 *   SHIM_WRONG=1          signatures with a bit turned over
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong_t;
typedef ulong_t (*function_t)();

/* CK_FUNCTION_LIST of version 2.40: the version, then the functions in this order */
enum {
	INITIALIZE = 0, GET_FUNCTION_LIST = 3, GET_TOKEN_INFO = 6, OPEN_SESSION = 12,
	CLOSE_SESSION = 13, LOGIN = 18, SIGN = 43, COUNT = 68
};
struct list {
	unsigned char major, minor;
	function_t functions[COUNT];
};

enum {
	CKR_CANT_LOCK = 0x0a, CKR_DEVICE_REMOVED = 0x32, CKR_SESSION_COUNT = 0xb1,
	CKF_PROTECTED_AUTHENTICATION_PATH = 0x100, TOKEN_INFO_FLAGS = 96
};

static struct list *real, shim;
static atomic_long signatures, sessions, inside;

static long setting(const char *name)
{
	const char *value = getenv(name);
	return value ? strtol(value, NULL, 0) : -1;
}

static void note(const char *what)
{
	const char *path = getenv("SHIM_LOG");
	FILE *file = path ? fopen(path, "a") : NULL;
	if (file) {
		fprintf(file, "%s\n", what);
		fclose(file);
	}
}

static ulong_t initialize(void *arguments)
{
	if (arguments && setting("SHIM_CANT_LOCK") > 0)
		return CKR_CANT_LOCK;
	return real->functions[INITIALIZE](arguments);
}

static ulong_t get_token_info(ulong_t slot, unsigned char *info)
{
	ulong_t code = real->functions[GET_TOKEN_INFO](slot, info), flags;
	if (code)
		return code;
	memcpy(&flags, info + TOKEN_INFO_FLAGS, sizeof flags);
	if (getenv("SHIM_PIN_PAD"))
		flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
	if (setting("SHIM_FLAGS") > 0)
		flags |= (ulong_t)setting("SHIM_FLAGS");
	memcpy(info + TOKEN_INFO_FLAGS, &flags, sizeof flags);
	return 0;
}

static ulong_t open_session(ulong_t slot, ulong_t flags, void *application, void *notify,
			    ulong_t *session)
{
	long limit = setting("SHIM_SESSIONS");
	if (limit >= 0 && atomic_load(&sessions) >= limit)
		return CKR_SESSION_COUNT;
	atomic_fetch_add(&sessions, 1);
	return real->functions[OPEN_SESSION](slot, flags, application, notify, session);
}

static ulong_t close_session(ulong_t session)
{
	atomic_fetch_sub(&sessions, 1);
	return real->functions[CLOSE_SESSION](session);
}

static ulong_t login(ulong_t session, ulong_t user, char *pin, ulong_t length)
{
	char *pad = getenv("SHIM_PIN_PAD");
	note(pin ? "login with a PIN" : "login at the device");
	if (!pin && pad)
		return real->functions[LOGIN](session, user, pad, strlen(pad));
	return real->functions[LOGIN](session, user, pin, length);
}

static ulong_t sign(ulong_t session, void *data, ulong_t data_length, unsigned char *signature,
		    ulong_t *length)
{
	long limit = setting("SHIM_REMOVED_AFTER");
	ulong_t code;
	if (limit >= 0 && atomic_fetch_add(&signatures, 1) >= limit)
		return CKR_DEVICE_REMOVED;
	if (atomic_fetch_add(&inside, 1) > 0 && setting("SHIM_CANT_LOCK") > 0)
		abort();
	code = real->functions[SIGN](session, data, data_length, signature, length);
	if (!code && setting("SHIM_WRONG") > 0)
		signature[*length - 1] ^= 1;
	atomic_fetch_sub(&inside, 1);
	return code;
}

ulong_t C_GetFunctionList(struct list **list)
{
	void *library = dlopen(getenv("SHIM_MODULE"), RTLD_NOW | RTLD_LOCAL);
	function_t get = library ? (function_t)dlsym(library, "C_GetFunctionList") : NULL;
	if (!get || get(&real))
		return 5; /* CKR_GENERAL_ERROR */
	shim = *real;
	shim.functions[GET_FUNCTION_LIST] = (function_t)C_GetFunctionList;
	shim.functions[INITIALIZE] = (function_t)initialize;
	shim.functions[GET_TOKEN_INFO] = (function_t)get_token_info;
	shim.functions[OPEN_SESSION] = (function_t)open_session;
	shim.functions[CLOSE_SESSION] = (function_t)close_session;
	shim.functions[LOGIN] = (function_t)login;
	shim.functions[SIGN] = (function_t)sign;
	*list = &shim;
	return 0;
}
