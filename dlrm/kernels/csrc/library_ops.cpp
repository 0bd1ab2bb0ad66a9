// What the library says of itself.
#include <torch/library.h>
#include <torch/version.h>

#include <string>

#include "kernels.h"

TORCH_LIBRARY(dlrm, m) {
  m.def("interface() -> int", []() -> int64_t { return 4; });
  m.def("torch_version() -> str", []() -> std::string {
    return std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) +
           "." + std::to_string(TORCH_VERSION_PATCH);
  });
  m.def("use_instruction_set(str name) -> bool", [](const std::string& name) {
    return dlrm::use_instruction_set(name.c_str());
  });
  m.def("instruction_set() -> str",
        []() -> std::string { return dlrm::kernels().instruction_set; });
}
