// What an entry point returns: nothing, or the text of what was wrong with the call.
#pragma once

#include <sstream>
#include <string>
#include <utility>

namespace inpaint {

struct Status {
  std::string text;
  bool ok() const { return text.empty(); }
};

template <class... Parts>
Status failure(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return Status{out.str()};
}

}  // namespace inpaint

#define INPAINT_CHECK(condition, ...)                         \
  do {                                                        \
    if (!(condition)) return ::inpaint::failure(__VA_ARGS__); \
  } while (0)

#define INPAINT_TRY(expression)               \
  do {                                        \
    ::inpaint::Status status_ = (expression); \
    if (!status_.ok()) return status_;        \
  } while (0)
