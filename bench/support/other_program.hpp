// SPDX-License-Identifier: Apache-2.0
// Runs a program that lies beside this one, and reads what it prints.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#if defined(__linux__)
#include <filesystem>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace pare::bench {

/// A program was started and failed.
struct failed_program {
  std::string name;
};

struct program_output {
  bool succeeded = false;
  std::string text{};  // of its standard output
};

/// Starts `name` with these arguments and waits for its end. Nothing where it cannot be started.
inline std::optional<program_output> run_beside([[maybe_unused]] std::string const& name,
                                                [[maybe_unused]] std::vector<std::string> arguments) {
#if defined(__linux__)
  std::error_code failed;
  auto const self = std::filesystem::read_symlink("/proc/self/exe", failed);
  std::string const program = (self.parent_path() / name).string();
  int ends[2];
  if (failed || access(program.c_str(), X_OK) != 0 || pipe(ends) != 0) return std::nullopt;

  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  pid_t child = 0;
  bool const started = posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);

  program_output out;
  char buffer[4096];
  for (ssize_t n = 0; started && (n = read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno != EINTR) break;
    if (n > 0) out.text.append(buffer, static_cast<std::size_t>(n));
  }
  close(ends[0]);
  if (!started) return std::nullopt;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  out.succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return out;
#else
  return std::nullopt;
#endif
}

}  // namespace pare::bench
